package guest

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON strings without encoding/json, which costs a plugin 1 MB and ten times the fuel.

const hexDigits = "0123456789abcdef"

// isPlain says of each byte whether it stands for itself; a byte outside of ASCII has to be looked at with its next ones.
var isPlain = func() (plain [256]bool) {
	for char := ' '; char < utf8.RuneSelf; char++ {
		plain[char] = char != '"' && char != '\\'
	}
	return plain
}()

var errNotString = errors.New("it isn't a string")

// unquote returns the text of a JSON string.
func unquote(json []byte) (string, error) {
	json = trimmed(json)
	if len(json) < 2 || json[0] != '"' || json[len(json)-1] != '"' {
		return "", errNotString
	}
	json = json[1 : len(json)-1]
	size := plainSize(asString(json))
	if size == len(json) {
		return asString(json), nil
	}
	text := make([]byte, 0, len(json))
	for {
		text, json = append(text, json[:size]...), json[size:]
		if len(json) == 0 {
			return asString(text), nil
		}
		if text, size = appendEscaped(text, json); size == 0 {
			return "", errNotString
		}
		json = json[size:]
		size = plainSize(asString(json))
	}
}

// appendEscaped appends what the escape at the start of json stands for, and returns the escape's size; 0 where there is
// none, or half a character.
func appendEscaped(text, json []byte) ([]byte, int) {
	if len(json) < 2 || json[0] != '\\' {
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
	switch {
	case first < 0:
		return text, 0
	case !utf16.IsSurrogate(first):
		return utf8.AppendRune(text, first), 6
	}
	if pair := utf16.DecodeRune(first, unit(json[6:])); pair != utf8.RuneError {
		return utf8.AppendRune(text, pair), 12
	}
	return text, 0
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
	json = append(slices.Grow(json, len(text)+2), '"')
	for {
		size := plainSize(text)
		json = append(json, text[:size]...)
		if text = text[size:]; text == "" {
			return append(json, '"')
		}
		json = appendEscape(json, text[0])
		text = text[1:]
	}
}

// plainSize returns the size of what needs no escape at the start of text.
func plainSize(text string) int {
	for at := 0; at < len(text); at++ {
		if isPlain[text[at]] {
			continue
		}
		_, size := utf8.DecodeRuneInString(text[at:])
		if size == 1 { // to be escaped, or not UTF-8
			return at
		}
		at += size - 1
	}
	return len(text)
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

// trimmed returns JSON without space around it.
func trimmed(json []byte) []byte { return bytes.Trim(json, " \t\r\n") }

// isText says whether JSON is UTF-8 and its escapes are whole characters: encoding/json takes U+FFFD for others.
func isText(json []byte) bool {
	if !utf8.Valid(json) {
		return false
	}
	for {
		at := bytes.IndexByte(json, '\\')
		if at < 0 {
			return true
		}
		json = json[at:]
		size := 2
		if unit(json) >= 0 {
			_, size = appendEscaped(nil, json)
		}
		if size == 0 || size > len(json) {
			return false
		}
		json = json[size:]
	}
}
