//go:build !wasip1

package guest

import (
	"os"
	"unsafe"
)

// Outside of a host: what it would be without settings, context and backends.

func bufferLength(buffer int32) int32 { return int32(len(outside(buffer))) }

func bufferRead(buffer, offset int32, into unsafe.Pointer, length int32) int32 {
	return int32(copy(unsafe.Slice((*byte)(into), length), outside(buffer)[offset:]))
}

func outside(buffer int32) string {
	switch buffer {
	case bufferValue:
		panic("guest: there is no value outside of a host; test the function that the hook calls")
	case bufferCallInfo:
		return `{"plugin":"","hook":"","request_id":"","scope":null}`
	default:
		return "{}"
	}
}

func hostLog(level int32, message string) {
	os.Stderr.WriteString(Level(level).String() + ": " + message + "\n")
}

func meterRemaining(int32) int64 { return -1 }

func outputWrite(string)                      { noHost() }
func fail(string)                             { noHost() }
func hostHTTPRequest(_, _ string) int32       { return noHost() }
func hostDBQuery(_, _ string) int32           { return noHost() }
func hostDBExec(_, _ string) int32            { return noHost() }
func hostKVGet(string) int32                  { return noHost() }
func hostKVSet(_, _ string) int32             { return noHost() }
func hostKVSetFor(_, _ string, _ int64) int32 { return noHost() }
func hostKVDelete(string) int32               { return noHost() }
func hostKVIncrement(_ string, _ int64) int32 { return noHost() }
func hostCall(_, _ string) int32              { return noHost() }

func noHost() int32 {
	panic("guest: there is no host to call; build for GOOS=wasip1 and run the plugin in one")
}
