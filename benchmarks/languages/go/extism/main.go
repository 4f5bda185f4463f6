// Gives a text back in capitals, by Extism's imports.
//
// Bytes cross as in Extism's library for Go: by loads and stores of eight, where there are as many.
package main

import (
	"encoding/binary"
	"encoding/json"
	"strings"
)

//go:wasmimport extism:host/env input_length
func inputLength() uint64

//go:wasmimport extism:host/env input_load_u8
func inputLoadU8(at uint64) uint32

//go:wasmimport extism:host/env input_load_u64
func inputLoadU64(at uint64) uint64

//go:wasmimport extism:host/env alloc
func alloc(length uint64) uint64

//go:wasmimport extism:host/env store_u8
func storeU8(at uint64, value uint32)

//go:wasmimport extism:host/env store_u64
func storeU64(at uint64, value uint64)

//go:wasmimport extism:host/env output_set
func outputSet(at, length uint64)

func input() []byte {
	bytes := make([]byte, inputLength())
	at := 0
	for ; at+8 <= len(bytes); at += 8 {
		binary.LittleEndian.PutUint64(bytes[at:], inputLoadU64(uint64(at)))
	}
	for ; at < len(bytes); at++ {
		bytes[at] = byte(inputLoadU8(uint64(at)))
	}
	return bytes
}

func output(bytes []byte) {
	block := alloc(uint64(len(bytes)))
	at := 0
	for ; at+8 <= len(bytes); at += 8 {
		storeU64(block+uint64(at), binary.LittleEndian.Uint64(bytes[at:]))
	}
	for ; at < len(bytes); at++ {
		storeU8(block+uint64(at), uint32(bytes[at]))
	}
	outputSet(block, uint64(len(bytes)))
}

//go:wasmexport run
func run() int32 {
	var text string
	if json.Unmarshal(input(), &text) != nil {
		return 1
	}
	bytes, err := json.Marshal(strings.ToUpper(text))
	if err != nil {
		return 1
	}
	output(bytes)
	return 0
}

func main() {}
