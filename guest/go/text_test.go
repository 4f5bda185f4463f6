package guest

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

var texts = []string{
	"", "plain", `"`, `\`, "a\"b\\c/d", "\b\f\n\r\t\x00\x1f\x7f", "ä€😀", "<script>&amp;", "\u2028\u2029", "a\xffb", "\xf0\x9f", "\xed\xa0\x80", "�",
}

// What is quoted, encoding/json reads as the same text.
func FuzzQuoted(f *testing.F) {
	for _, text := range texts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var read string
		quoted := appendQuoted(nil, text)
		if err := json.Unmarshal(quoted, &read); err != nil || read != string([]rune(text)) {
			t.Fatalf("%q is quoted as %s, read as %q: %v", text, quoted, read, err)
		}
		if !utf8.Valid(quoted) {
			t.Fatalf("%q is quoted as %q", text, quoted)
		}
	})
}

// What encoding/json reads as a string is unquoted as the same text; what is no string, or has half a character, is refused.
func FuzzUnquoted(f *testing.F) {
	for _, text := range texts {
		quoted, _ := json.Marshal(text)
		f.Add(string(quoted))
	}
	for _, content := range []string{
		`"\/\b\f\n\r\t"`, `"\ud83d\ude00"`, `"\uD83D"`, `"\ude00x"`, `"\ud83d\ud83d\ude00"`, `"\ud83d\n"`, " \t\r\n\"\" ", "3", "null", `["a"]`, `{"a":"b"}`,
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		if !json.Valid([]byte(content)) || !utf8.ValidString(content) {
			t.Skip("it isn't JSON")
		}
		var want any
		if err := json.Unmarshal([]byte(content), &want); err != nil {
			t.Skip("a number out of range")
		}
		text, err := unquote([]byte(content))
		wanted, isString := want.(string)
		if isString && isText([]byte(content)) != (err == nil) || !isString && err == nil {
			t.Fatalf("%s is unquoted as %q: %v", content, text, err)
		}
		if err == nil && wanted != text {
			t.Fatalf("%s is unquoted as %q, not as %q", content, text, want)
		}
	})
}
