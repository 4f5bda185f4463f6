package guest

import (
	"sync"
	"unsafe"
)

// read returns what a buffer holds.
func read(buffer int32) []byte {
	content := make([]byte, bufferLength(buffer))
	if len(content) > 0 {
		bufferRead(buffer, 0, unsafe.Pointer(unsafe.SliceData(content)), int32(len(content)))
	}
	return content
}

// reply is a host's answer to a call: the code, which is the body's length where it isn't negative.
type reply struct {
	code int32
	head []byte
	body []byte
}

// asking is held from a host call until its reply is read, as the next call's reply takes its place.
var asking sync.Mutex

// ask makes a host call and reads its reply.
func ask(call func() int32) reply {
	asking.Lock()
	defer asking.Unlock()
	code := call()
	return reply{code, read(bufferReplyHead), read(bufferReplyBody)}
}

// asString returns bytes as a string without copying them. They must not change while it is used.
func asString(bytes []byte) string {
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}
