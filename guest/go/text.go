package guest

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON strings without encoding/json, which costs a plugin 1 MB and ten times the fuel.

const hexDigits = "0123456789abcdef"

var errNotString = errors.New("it isn't a string")

// unquote returns the text of a JSON string. The host's JSON is well-formed: what isn't a string is something else.
func unquote(json []byte) (string, error) {
	if len(json) < 2 || json[0] != '"' || json[len(json)-1] != '"' {
		return "", errNotString
	}
	json = json[1 : len(json)-1]
	var text []byte
	plain := 0
	for at := 0; at < len(json); {
		if json[at] != '\\' {
			at++
			continue
		}
		if text == nil {
			text = make([]byte, 0, len(json))
		}
		text = append(text, json[plain:at]...)
		var size int
		if text, size = appendEscaped(text, json[at:]); size == 0 {
			return "", errNotString
		}
		at += size
		plain = at
	}
	if text == nil {
		return asString(json), nil
	}
	return asString(append(text, json[plain:]...)), nil
}

// appendEscaped appends what the escape at the start of json stands for, and returns the escape's size, 0 for none.
func appendEscaped(text, json []byte) ([]byte, int) {
	if len(json) < 2 {
		return text, 0
	}
	switch json[1] {
	case '"', '\\', '/':
		return append(text, json[1]), 2
	case 'b':
		return append(text, '\b'), 2
	case 'f':
		return append(text, '\f'), 2
	case 'n':
		return append(text, '\n'), 2
	case 'r':
		return append(text, '\r'), 2
	case 't':
		return append(text, '\t'), 2
	}
	first := unit(json)
	if first < 0 {
		return text, 0
	}
	if !utf16.IsSurrogate(first) {
		return utf8.AppendRune(text, first), 6
	}
	if pair := utf16.DecodeRune(first, unit(json[6:])); pair != utf8.RuneError {
		return utf8.AppendRune(text, pair), 12
	}
	return utf8.AppendRune(text, utf8.RuneError), 6
}

// unit returns the number of the \uXXXX at the start of json, -1 for none.
func unit(json []byte) rune {
	if len(json) < 6 || json[0] != '\\' || json[1] != 'u' {
		return -1
	}
	number, err := strconv.ParseUint(string(json[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(number)
}

// appendQuoted appends text as a JSON string. Bytes that aren't UTF-8 become U+FFFD.
func appendQuoted(json []byte, text string) []byte {
	json = append(json, '"')
	plain := 0
	for at := 0; at < len(text); {
		char := text[at]
		if char >= ' ' && char != '"' && char != '\\' && char < utf8.RuneSelf {
			at++
			continue
		}
		size := 1
		if char >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(text[at:]); r != utf8.RuneError || size > 1 {
				at += size
				continue
			}
		}
		json = append(json, text[plain:at]...)
		json = appendEscape(json, char)
		at += size
		plain = at
	}
	return append(append(json, text[plain:]...), '"')
}

func appendEscape(json []byte, char byte) []byte {
	switch {
	case char == '"' || char == '\\':
		return append(json, '\\', char)
	case char == '\n':
		return append(json, '\\', 'n')
	case char < ' ':
		return append(json, '\\', 'u', '0', '0', hexDigits[char>>4], hexDigits[char&0xf])
	default:
		return utf8.AppendRune(json, utf8.RuneError)
	}
}
