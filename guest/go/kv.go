package guest

import (
	"math"
	"strconv"
	"time"
)

// KVGet returns the bytes kept under a key, and whether there are any.
func KVGet(key string) (value []byte, found bool, err error) {
	answer := ask(func() int32 { return hostKVGet(key) })
	if answer.code == codeNotFound {
		return nil, false, nil
	}
	return answer.body, answer.code >= 0, answer.failure("KV get", key)
}

// KVSet keeps bytes under a key.
func KVSet(key string, value []byte) error {
	return ask(func() int32 { return hostKVSet(key, asString(value)) }).failure("KV set", key)
}

// KVSetFor keeps bytes under a key for a time, from 1 to 315,360,000 seconds. What is less than a second is rounded up.
func KVSetFor(key string, value []byte, lifetime time.Duration) error {
	seconds := int64(math.Ceil(lifetime.Seconds()))
	return ask(func() int32 { return hostKVSetFor(key, asString(value), seconds) }).failure("KV set", key)
}

// KVDelete removes a key. One that isn't there is no error.
func KVDelete(key string) error {
	return ask(func() int32 { return hostKVDelete(key) }).failure("KV delete", key)
}

// KVIncrement adds to the number kept under a key, which begins at 0, as one step, and returns the new number.
func KVIncrement(key string, by int64) (int64, error) {
	answer := ask(func() int32 { return hostKVIncrement(key, by) })
	if err := answer.failure("KV increment", key); err != nil {
		return 0, err
	}
	number, err := strconv.ParseInt(asString(answer.body), 10, 64)
	if err != nil {
		return 0, badReply("KV increment", key, "the counter isn't a number")
	}
	return number, nil
}
