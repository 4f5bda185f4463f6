// The conformance guest in Go: guest/conformance/README.md says what each hook and each step does.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

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

type record struct {
	Title  string   `json:"title"`
	Tags   []string `json:"tags"`
	Votes  int64    `json:"votes"`
	Ratio  float64  `json:"ratio"`
	Author *author  `json:"author"`
}

type author struct {
	Name string `json:"name"`
}

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

// UnmarshalJSON reads a record whose keys are all there, which encoding/json doesn't ask for.
func (r *record) UnmarshalJSON(content []byte) error {
	type plain record
	if err := require(content, []string{"title", "tags", "votes", "ratio"}, "author"); err != nil {
		return err
	}
	return json.Unmarshal(content, (*plain)(r))
}

// UnmarshalJSON reads an author with a name.
func (a *author) UnmarshalJSON(content []byte) error {
	type plain author
	if err := require(content, []string{"name"}); err != nil {
		return err
	}
	return json.Unmarshal(content, (*plain)(a))
}

func require(content []byte, keys []string, nullable ...string) error {
	var found map[string]json.RawMessage
	if err := json.Unmarshal(content, &found); err != nil {
		return err
	}
	for _, key := range append(keys, nullable...) {
		if _, isThere := found[key]; !isThere {
			return fmt.Errorf("%q is missing", key)
		}
	}
	for _, key := range keys {
		if bytes.Equal(found[key], []byte("null")) {
			return fmt.Errorf("%q is null", key)
		}
	}
	return nil
}
