package guest

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// Code says how a host call was answered, if not well. It is an error itself, for [errors.Is]:
//
//	if errors.Is(err, guest.ErrDenied) { ... }
type Code int32

// The codes. A host may give others, which are negative too.
const (
	ErrDenied        Code = codeDenied        // outside of what the operator granted
	ErrBadRequest    Code = codeBadRequest    // malformed
	ErrNotFound      Code = codeNotFound      // no such function
	ErrBackendFailed Code = codeBackendFailed // the application's service failed or was late
	ErrTooLarge      Code = codeTooLarge      // above a cap of the operator
	ErrConflict      Code = codeConflict      // against what is stored

	ErrBadReply Code = 1 // no host's: the reply doesn't read as the ABI says, or doesn't fit the type of yours
)

var codeNames = [...]string{"", "denied", "bad_request", "not_found", "backend_failed", "too_large", "conflict"}

// Error returns the code's name, such as "denied".
func (c Code) Error() string {
	switch {
	case c == ErrBadReply:
		return "bad_reply"
	case c < 0 && c >= ErrConflict:
		return codeNames[-c]
	default:
		return "code " + strconv.Itoa(int(c))
	}
}

// Error is a host call that was refused or failed, or whose reply is of no use.
type Error struct {
	Call   string // what was asked, such as "GET https://api.example.com/x"
	Code   Code
	Reason string // the host's words, or what is wrong with its reply; may be empty
}

// Error returns a sentence such as "GET https://api.example.com/x: denied: origin not granted".
func (e *Error) Error() string {
	text := e.Call + ": " + e.Code.Error()
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Unwrap returns the code, for [errors.Is].
func (e *Error) Unwrap() error { return e.Code }

// failure returns what a host call was answered as an error, nil where it went well.
func (r reply) failure(call, subject string) error {
	if r.code >= 0 {
		return nil
	}
	return &Error{Call: asked(call, subject), Code: Code(r.code), Reason: r.reason()}
}

func badReply(call, subject, reason string) error {
	return &Error{Call: asked(call, subject), Code: ErrBadReply, Reason: reason}
}

// reason returns the host's words, "" where it has none. It reads {"reason":"..."} without encoding/json, which a plugin
// that needs nothing else of it would link for this alone.
func (r reply) reason() string {
	head, isObject := bytes.CutSuffix(trimmed(r.head), []byte("}"))
	key, words, hasValue := bytes.Cut(head, []byte(":"))
	if !isObject || !hasValue || !bytes.HasSuffix(trimmed(key), []byte(`"reason"`)) {
		return ""
	}
	text, _ := unquote(words)
	return text
}

// asked returns what was asked, as errors say it: "query SELECT …". A long subject is cut.
func asked(call, subject string) string {
	const longest = 200
	if len(subject) <= longest {
		return call + " " + subject
	}
	end := longest
	for end > 0 && !utf8.RuneStart(subject[end]) {
		end--
	}
	return call + " " + subject[:end] + "…"
}
