package guest

import "unsafe"

// The imports. A string is passed as pointer and length; the host copies before it returns and keeps no pointer.

//go:wasmimport fuseboard buffer_length
//go:noescape
func bufferLength(buffer int32) int32

//go:wasmimport fuseboard buffer_read
//go:noescape
func bufferRead(buffer, offset int32, into unsafe.Pointer, length int32) int32

//go:wasmimport fuseboard output_write
//go:noescape
func outputWrite(output string)

//go:wasmimport fuseboard fail
//go:noescape
func fail(message string)

//go:wasmimport fuseboard host_log
//go:noescape
func hostLog(level int32, message string)

//go:wasmimport fuseboard meter_remaining
//go:noescape
func meterRemaining(limit int32) int64

//go:wasmimport fuseboard host_http_request
//go:noescape
func hostHTTPRequest(head, body string) int32

//go:wasmimport fuseboard host_db_query
//go:noescape
func hostDBQuery(sql, params string) int32

//go:wasmimport fuseboard host_db_exec
//go:noescape
func hostDBExec(sql, params string) int32

//go:wasmimport fuseboard host_kv_get
//go:noescape
func hostKVGet(key string) int32

//go:wasmimport fuseboard host_kv_set
//go:noescape
func hostKVSet(key, value string) int32

//go:wasmimport fuseboard host_kv_set_for
//go:noescape
func hostKVSetFor(key, value string, seconds int64) int32

//go:wasmimport fuseboard host_kv_delete
//go:noescape
func hostKVDelete(key string) int32

//go:wasmimport fuseboard host_kv_increment
//go:noescape
func hostKVIncrement(key string, by int64) int32

//go:wasmimport fuseboard host_call
//go:noescape
func hostCall(name, body string) int32
