package guest

import "strconv"

// CallInfo says what invocation this is.
type CallInfo struct {
	Plugin    string  `json:"plugin"`     // the plugin's slug
	Hook      string  `json:"hook"`       // the hook's name
	RequestID string  `json:"request_id"` // the request that the application serves
	Scope     *string `json:"scope"`      // whose data this is about, such as a tenant; nil for none
}

// Info returns what invocation this is.
func Info() CallInfo {
	var info CallInfo
	if err := decode(read(bufferCallInfo), &info, "the call info"); err != nil {
		panic(err)
	}
	return info
}

// Settings decodes the plugin's settings, those of its manifest with the operator's over them, into a pointer.
//
// What stands in it before is kept where a setting isn't there:
//
//	settings := Settings{Limit: 10}
//	err := guest.Settings(&settings)
func Settings(into any) error {
	return decode(read(bufferSettings), into, "a setting")
}

// Context decodes what the application passes beside the value, an object that may be empty, into a pointer.
func Context(into any) error {
	return decode(read(bufferContext), into, "the context")
}

// Limit is one of an invocation's limits.
type Limit int32

// The limits.
const (
	Memory       Limit = limitMemory       // bytes
	Fuel         Limit = limitFuel         // fuel, about one an instruction
	Timeout      Limit = limitTimeout      // milliseconds
	HTTPFetches  Limit = limitHTTPFetches  // count
	DBQueries    Limit = limitDBQueries    // count
	KVWriteBytes Limit = limitKVWriteBytes // bytes
)

var limitNames = [...]string{"memory", "fuel", "timeout", "http_fetches", "db_queries", "kv_write_bytes"}

// String returns the limit's name, such as "kv_write_bytes".
func (l Limit) String() string {
	if l < 0 || int(l) >= len(limitNames) {
		return "limit " + strconv.Itoa(int(l))
	}
	return limitNames[l]
}

// Remaining returns what is left of a limit, in its unit; -1 for one that the host doesn't know.
func Remaining(limit Limit) int64 { return meterRemaining(int32(limit)) }
