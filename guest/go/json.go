package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// decode decodes JSON into a value. Numbers in an any are a json.Number. An error says that what doesn't fit, and where.
func decode(content []byte, into any, what string) (err error) {
	if text, isString := into.(*string); isString {
		if *text, err = unquote(content); err != nil {
			err = fmt.Errorf("%s doesn't fit: %w", what, err)
		}
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	err = decoder.Decode(into)
	if err != nil {
		err = fmt.Errorf("%s doesn't fit: %w", what, withKey(err))
	}
	return err
}

// withKey returns an error of encoding/json in words for whoever reads a plugin's failures.
func withKey(err error) error {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
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

// encode returns a value as JSON, with <, > and & as they are.
func encode(value any, what string) ([]byte, error) {
	if text, isString := value.(string); isString {
		return appendQuoted(nil, text), nil
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("%s can't be encoded: %w", what, err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}
