// Gives a text back in capitals, by Fuseboard's library for Go.
package main

import (
	"strings"

	"fuseboard.dev/guest"
)

//go:wasmexport run
func run() { guest.Filter(capitals) }

func capitals(text string) (string, error) { return strings.ToUpper(text), nil }

func main() {}
