package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// decode decodes JSON into a value. An error says what doesn't fit, and where.
func decode(content []byte, into any, what string) error {
	if err := unmarshal(content, into); err != nil {
		return fmt.Errorf("%s doesn't fit: %w", what, err)
	}
	return nil
}

// decodeReply is decode for a part of a host call's reply.
func decodeReply(content []byte, into any, call, subject string) error {
	if err := unmarshal(content, into); err != nil {
		return badReply(call, subject, err.Error())
	}
	return nil
}

// unmarshal is json.Unmarshal, but stricter with text, and with a json.Number for each number in an any.
func unmarshal(content []byte, into any) (err error) {
	if text, isString := into.(*string); isString {
		*text, err = unquote(content)
	} else {
		err = decodeAny(content, into)
	}
	return withKey(err)
}

func decodeAny(content []byte, into any) error {
	if !isText(content) {
		return errors.New("it isn't UTF-8 or has half a character")
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if len(trimmed(content[decoder.InputOffset():])) > 0 {
		return errors.New("it is more than one value")
	}
	return nil
}

// withKey returns an error of encoding/json in words for whoever reads a plugin's failures, and any other as it is.
func withKey(err error) error {
	mismatch, isMismatch := err.(*json.UnmarshalTypeError)
	if !isMismatch {
		return err
	}
	subject, wanted := "it", mismatch.Type.String()
	if mismatch.Field != "" {
		subject = strconv.Quote(mismatch.Field)
	}
	if kind := mismatch.Type.Kind(); kind == reflect.Struct || kind == reflect.Map {
		wanted = "an object"
	}
	return fmt.Errorf("%s can't be %s: it has to be %s", subject, mismatch.Value, wanted)
}

// encode encodes a value as JSON, with <, > and & as they are, and hands it over. Its bytes are only lent.
func encode(value any, what string, use func(json []byte)) error {
	if text, isString := value.(string); isString {
		use(appendQuoted(nil, text))
		return nil
	}
	encoder := json.NewEncoder(sink(use))
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("%s can't be encoded: %w", what, err)
	}
	return nil
}

// sink takes what an encoder writes, a whole value and a line's end, without a copy.
type sink func(json []byte)

func (s sink) Write(line []byte) (int, error) {
	s(bytes.TrimSuffix(line, []byte("\n")))
	return len(line), nil
}

// Prepare has encoding/json look at a type now. Called in an init function, an invocation doesn't pay for that: the host
// keeps a plugin's memory as it is after init, and begins each invocation there.
//
//	func init() { guest.Prepare[Comment]() }
func Prepare[T any]() {
	var value T
	_ = encode(value, "", func([]byte) {}) // what a zero value's own MarshalJSON thinks of it doesn't matter
}
