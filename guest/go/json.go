package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
	var mismatch *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return fmt.Errorf("%s doesn't fit: %q can't be %s: it has to be %s", what, mismatch.Field, mismatch.Value, mismatch.Type)
	default:
		return fmt.Errorf("%s doesn't fit: %w", what, err)
	}
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
