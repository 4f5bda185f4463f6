package guest

import "unsafe"

// read returns what a buffer holds.
func read(buffer int32) []byte {
	content := make([]byte, bufferLength(buffer))
	if len(content) > 0 {
		bufferRead(buffer, 0, unsafe.Pointer(unsafe.SliceData(content)), int32(len(content)))
	}
	return content
}

// asString returns bytes as a string without copying them. They must not change while it is used.
func asString(bytes []byte) string {
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}
