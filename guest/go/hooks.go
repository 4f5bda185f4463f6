package guest

import "errors"

// Unchanged is what a filter returns as its error to leave the value as it is, at no cost of encoding it.
// The value that it returns beside it is ignored.
var Unchanged = errors.New("unchanged")

// Filter runs a filter on the hook's value, decoded from JSON, and gives back what it returns.
//
// An error other than [Unchanged], a value that doesn't fit T and a panic end the invocation with a message.
func Filter[T any](hook func(value T) (T, error)) {
	run(func() error {
		var value T
		if err := decode(read(bufferValue), &value, "the value"); err != nil {
			return err
		}
		result, err := hook(value)
		if err != nil {
			return err
		}
		return encode(result, "the result", func(output []byte) { outputWrite(asString(output)) })
	})
}

// FilterString is [Filter] for a string, without encoding/json: a plugin that uses nothing else of it is 1 MB smaller.
func FilterString(hook func(value string) (string, error)) {
	run(func() error {
		value, err := unquote(read(bufferValue))
		if err != nil {
			return errors.New("the value doesn't fit: " + err.Error())
		}
		result, err := hook(value)
		if err == nil {
			outputWrite(asString(appendQuoted(nil, result)))
		}
		return err
	})
}

// FilterBytes runs a filter on a value that the application declares as bytes.
func FilterBytes(hook func(value []byte) ([]byte, error)) {
	run(func() error {
		result, err := hook(read(bufferValue))
		if err == nil {
			outputWrite(asString(result))
		}
		return err
	})
}

// Action runs an action on the hook's value, decoded from JSON.
//
// An error, a value that doesn't fit T and a panic end the invocation with a message.
func Action[T any](hook func(value T) error) {
	run(func() error {
		var value T
		if err := decode(read(bufferValue), &value, "the value"); err != nil {
			return err
		}
		return hook(value)
	})
}

// ActionBytes runs an action on a value that the application declares as bytes.
func ActionBytes(hook func(value []byte) error) {
	run(func() error { return hook(read(bufferValue)) })
}

// Fail ends the invocation with a message, from any depth. Returning an error from the hook does the same.
func Fail(message string) {
	fail(message)
	panic("guest: fail returned")
}

func run(hook func() error) {
	defer failAfterPanic()
	if err := hook(); err != nil && !errors.Is(err, Unchanged) {
		fail(err.Error())
	}
}
