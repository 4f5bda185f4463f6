// The conformance guest in Go: guest/conformance/README.md says what each hook and each step does.
package main

import (
	"errors"

	"fuseboard.dev/guest"
)

//go:wasmexport run
func run() { guest.Filter(runSteps) }

//go:wasmexport typed
func typed() { guest.Filter(changeRecord) }

//go:wasmexport echo
func echo() { guest.Filter(func(value any) (any, error) { return value, nil }) }

//go:wasmexport echo_bytes
func echoBytes() { guest.FilterBytes(func(value []byte) ([]byte, error) { return value, nil }) }

//go:wasmexport empty
func empty() { guest.FilterBytes(func([]byte) ([]byte, error) { return nil, nil }) }

//go:wasmexport keep
func keep() {}

//go:wasmexport failing
func failing() {
	guest.Filter(func(value string) (string, error) { return "", errors.New("it can't be done: " + value) })
}

//go:wasmexport note
func note() {
	guest.Action(func(value struct {
		Text string `json:"text"`
	}) error {
		guest.Log(guest.LevelInfo, value.Text)
		return nil
	})
}

func main() {}

func changeRecord(value record) (record, error) {
	value.Title = asciiUpper(value.Title)
	value.Votes++
	return value, nil
}

func asciiUpper(text string) string {
	upper := []byte(text)
	for i, char := range upper {
		if 'a' <= char && char <= 'z' {
			upper[i] = char - 'a' + 'A'
		}
	}
	return string(upper)
}
