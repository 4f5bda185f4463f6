package guest

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type note struct {
	ID    int64   `json:"id"`
	Title *string `json:"title"`
	Body  []byte  `json:"body"`
}

// What doesn't fit is named by its key, however deep.
func TestDecodeNamesTheKey(t *testing.T) {
	var value struct {
		Notes []note `json:"notes"`
		Own   note   `json:"own"`
	}
	for content, want := range map[string]string{
		`{"own":{"id":"x"}}`: `the value doesn't fit: "own.id" can't be string: it has to be int64`,
		`{"notes":3}`:        `the value doesn't fit: "notes" can't be number: it has to be []guest.note`,
		`[]`:                 `the value doesn't fit: it can't be array: it has to be an object`,
	} {
		if err := decode([]byte(content), &value, "the value"); err == nil || err.Error() != want {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// What isn't UTF-8, has half a character or goes on after a value is refused, by encoding/json's way and our own.
func TestDecodeRefuses(t *testing.T) {
	for _, content := range []string{
		"", "\"\xff\"", "\"\xed\xa0\x80\"", `"\ud800"`, `"\udc00"`, `"\ud83dx"`, `"\ud83d\ud83d"`, `"\q"`, `"\u12"`, `"\`, "\"\x01\"", `"a"b"`, `"a" 1`,
	} {
		var value any
		var text string
		if decode([]byte(content), &value, "") == nil || decode([]byte(content), &text, "") == nil {
			t.Errorf("%q is read as %q and %q", content, value, text)
		}
	}
}

// A number in an any keeps all its digits, and what isn't there keeps what it was.
func TestDecodeKeeps(t *testing.T) {
	var value any
	content := `{"big":9007199254740993,"list":[1.0]}`
	if err := decode([]byte(content), &value, ""); err != nil {
		t.Fatal(err)
	}
	var again string
	if err := encode(value, "", func(json []byte) { again = string(json) }); err != nil || again != content {
		t.Errorf("%s: %v", again, err)
	}
	kept := note{ID: 7}
	if err := decode([]byte(`{"title":"x"}`), &kept, ""); err != nil || kept.ID != 7 || *kept.Title != "x" {
		t.Errorf("%v: %v", kept, err)
	}
}

// Parameters are scalars, and bytes in base64.
func TestParams(t *testing.T) {
	for want, params := range map[string][]any{
		"[]":                             nil,
		`[null,true,7,1.5,"<ä>"]`:        {nil, true, int64(7), 1.5, "<ä>"},
		`[{"base64":"/w=="},null]`:       {[]byte{0xff}, []byte(nil)},
		`[{"base64":""},"2026-01-01",7]`: {[]byte{}, "2026-01-01", json.Number("7")},
	} {
		var encoded string
		err := encodeParams(params, func(json []byte) { encoded = string(json) })
		if err != nil || encoded != want {
			t.Errorf("%v: %s, %v", params, encoded, err)
		}
	}
}

// A row decodes into a struct or a map by its columns' names, into anything else from its only column.
func TestRows(t *testing.T) {
	columns, values := []string{"id", "title", "body"}, []json.RawMessage{[]byte("7"), []byte("null"), []byte(`"/w=="`)}
	content, err := rowContent(reflect.TypeFor[note](), columns, values)
	var row note
	if err != nil || decode(content, &row, "") != nil || row.ID != 7 || row.Title != nil || string(row.Body) != "\xff" {
		t.Errorf("%s: %v, %v", content, row, err)
	}
	if content, err := rowContent(reflect.TypeFor[map[string]any](), nil, nil); string(content) != "{}" {
		t.Errorf("%s: %v", content, err)
	}
	if content, err := rowContent(reflect.TypeFor[int64](), columns[:1], values[:1]); string(content) != "7" {
		t.Errorf("%s: %v", content, err)
	}
	if _, err := rowContent(reflect.TypeFor[string](), columns, values); err == nil {
		t.Error("three columns fit into a string")
	}
	if _, err := rowContent(reflect.TypeFor[note](), columns[:2], values); err == nil {
		t.Error("a value without a column has a place")
	}
}

// An error is its code for errors.Is and itself for errors.As, and unknown codes keep their number.
func TestErrors(t *testing.T) {
	err := error(&Error{Call: "GET https://api.example.com/x", Code: ErrDenied, Reason: "origin not granted"})
	if err.Error() != "GET https://api.example.com/x: denied: origin not granted" {
		t.Error(err)
	}
	var refused *Error
	if !errors.Is(err, ErrDenied) || errors.Is(err, ErrConflict) || !errors.As(err, &refused) {
		t.Error("errors.Is or errors.As doesn't find its way")
	}
	if text := (&Error{Call: "call x", Code: -17}).Error(); text != "call x: code -17" {
		t.Error(text)
	}
	if err := decodeReply([]byte(`7`), new(string), "call", "x"); !errors.Is(err, ErrBadReply) || err.Error() != "call x: bad_reply: it isn't a string" {
		t.Error(err)
	}
}

// What was asked is cut between characters.
func TestAskedIsCut(t *testing.T) {
	long := strings.Repeat("ü", 100)
	if asked("exec", long) != "exec "+long || asked("exec", "x"+long) != "exec x"+long[:198]+"…" {
		t.Error(asked("exec", long), asked("exec", "x"+long))
	}
}

// A reason is read where the head has one, and there is none otherwise.
func TestReasons(t *testing.T) {
	for head, want := range map[string]string{
		`{"reason":"told: \"ö\" {}"}`: `told: "ö" {}`, ` { "reason" : "x" } `: "x",
		"": "", "{}": "", "[]": "", `{"reason": "cut`: "", `{"reason": 7}`: "", `{"reason"}`: "", `{"other":"x"}`: "",
	} {
		if reason := (reply{head: []byte(head)}).reason(); reason != want {
			t.Errorf("%s: %q", head, reason)
		}
	}
}

// A goroutine that asks the host waits until the one before has its reply, which the next call would replace.
func TestAskIsOneAtATime(t *testing.T) {
	var all sync.WaitGroup
	var inside, most atomic.Int32
	for range 10 {
		all.Add(1)
		go func() {
			defer all.Done()
			ask(func() int32 {
				most.Store(max(most.Load(), inside.Add(1)))
				time.Sleep(time.Millisecond)
				return inside.Add(-1)
			})
		}()
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d asked at once", most.Load())
	}
}
