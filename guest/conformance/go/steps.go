package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"fuseboard.dev/guest"
)

// script is the value of `run`: it comes with steps and goes with results.
type script struct {
	Steps   []step `json:"steps,omitzero"`
	Results []any  `json:"results,omitzero"`
}

// step is one with its arguments, of which each kind of step has its own.
type step struct {
	Do      string         `json:"do"`
	Limit   string         `json:"limit"`
	Level   string         `json:"level"`
	Text    string         `json:"text"`
	Method  string         `json:"method"`
	URL     string         `json:"url"`
	Headers guest.Headers  `json:"headers"`
	Body    string         `json:"body"`
	SQL     string         `json:"sql"`
	Params  []any          `json:"params"`
	Key     string         `json:"key"`
	Value   string         `json:"value"`
	Seconds *int64         `json:"seconds"`
	By      int64          `json:"by"`
	Name    string         `json:"name"`
	Args    map[string]any `json:"args"`
	Message string         `json:"message"`
	MiB     int            `json:"mib"`
	Length  int            `json:"length"`
	Times   int            `json:"times"`
	Step    *step          `json:"step"`
	To      string         `json:"to"`
	MS      int64          `json:"ms"`
}

func runSteps(value script) (script, error) {
	results := make([]any, 0, len(value.Steps))
	for _, one := range value.Steps {
		result, err := one.run()
		if err != nil {
			return script{}, err
		}
		results = append(results, result)
	}
	return script{Results: results}, nil
}

// kinds are the steps by their names.
var kinds = map[string]func(step) (any, error){
	"context":      func(step) (any, error) { return object(guest.Context) },
	"settings":     func(step) (any, error) { return object(guest.Settings) },
	"call_info":    func(step) (any, error) { return guest.Info(), nil },
	"meter":        step.meter,
	"log":          step.log,
	"http":         step.http,
	"db_query":     step.dbQuery,
	"db_exec":      step.dbExec,
	"kv_get":       step.kvGet,
	"kv_set":       step.kvSet,
	"kv_delete":    func(s step) (any, error) { return nil, guest.KVDelete(s.Key) },
	"kv_increment": func(s step) (any, error) { return guest.KVIncrement(s.Key, s.By) },
	"call":         func(s step) (any, error) { return guest.Call[any](s.Name, s.Args) },
	"fail":         func(s step) (any, error) { return nil, errors.New(s.Message) },
	"crash":        step.crash,
	"loop":         step.loop,
	"allocate":     step.allocate,
	"text":         func(s step) (any, error) { return strings.Repeat("x", s.Length), nil },
	"print":        step.print,
	"now":          func(step) (any, error) { return time.Now().Unix(), nil },
	"random":       step.random,
	"sleep":        step.sleep,
}

// run gives a step's result; a host call that is answered with an error is one.
func (s step) run() (any, error) {
	result, err := s.done()
	var refused *guest.Error
	if errors.As(err, &refused) {
		return map[string]string{"error": nameOf(refused.Code), "reason": refused.Reason}, nil
	}
	return result, err
}

func (s step) done() (any, error) {
	switch s.Do {
	case "repeat":
		return s.repeat()
	case "told":
		return s.told()
	}
	kind, isKnown := kinds[s.Do]
	if !isKnown {
		return nil, fmt.Errorf("there is no step %q", s.Do)
	}
	return kind(s)
}

// told gives the text of the error that a step is answered with.
func (s step) told() (any, error) {
	result, err := s.Step.done()
	if err != nil {
		return err.Error(), nil
	}
	return result, nil
}

func nameOf(code guest.Code) string {
	switch code {
	case guest.ErrDenied, guest.ErrBadRequest, guest.ErrNotFound, guest.ErrBackendFailed, guest.ErrTooLarge, guest.ErrConflict, guest.ErrBadReply:
		return code.Error()
	default:
		return "unknown"
	}
}

func (s step) repeat() (result any, err error) {
	for range s.Times {
		if result, err = s.Step.run(); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func object(read func(any) error) (any, error) {
	var content map[string]any
	return content, read(&content)
}

func (s step) meter() (any, error) {
	for limit := guest.Memory; limit <= guest.KVWriteBytes; limit++ {
		if limit.String() == s.Limit {
			return guest.Remaining(limit), nil
		}
	}
	return nil, fmt.Errorf("there is no limit %q", s.Limit)
}

func (s step) log() (any, error) {
	for level := guest.LevelDebug; level <= guest.LevelCritical; level++ {
		if level.String() == s.Level {
			guest.Log(level, s.Text)
			return nil, nil
		}
	}
	return nil, fmt.Errorf("there is no level %q", s.Level)
}

func (s step) http() (any, error) {
	response, err := guest.Fetch(guest.Request{Method: s.Method, URL: s.URL, Headers: s.Headers, Body: []byte(s.Body)})
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(response.Body) {
		return nil, errors.New("the response's body isn't text")
	}
	return map[string]any{"status": response.Status, "headers": response.Headers, "body": string(response.Body)}, nil
}

func (s step) dbQuery() (any, error) {
	return guest.QueryRows(s.SQL, s.Params...)
}

func (s step) dbExec() (any, error) {
	changed, err := guest.Exec(s.SQL, s.Params...)
	return map[string]int64{"rows_changed": changed}, err
}

func (s step) kvGet() (any, error) {
	value, found, err := guest.KVGet(s.Key)
	if err != nil || !found {
		return nil, err
	}
	return hex.EncodeToString(value), nil
}

func (s step) kvSet() (any, error) {
	value, err := hex.DecodeString(s.Value)
	if err != nil {
		return nil, err
	}
	if s.Seconds == nil {
		return nil, guest.KVSet(s.Key, value)
	}
	return nil, guest.KVSetFor(s.Key, value, time.Duration(*s.Seconds)*time.Second)
}

// crash ends the program as Go does where nothing can recover: by a panic that no hook's function is above.
func (s step) crash() (any, error) {
	go panic("crash")
	select {}
}

func (s step) loop() (any, error) {
	for {
	}
}

var kept [][]byte

func (s step) allocate() (any, error) {
	block := make([]byte, s.MiB<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	kept = append(kept, block)
	return nil, nil
}

func (s step) print() (any, error) {
	stream := os.Stdout
	if s.To == "stderr" {
		stream = os.Stderr
	}
	_, err := fmt.Fprintln(stream, s.Text)
	return nil, err
}

func (s step) random() (any, error) {
	drawn := make([]byte, 16)
	rand.Read(drawn)
	return hex.EncodeToString(drawn), nil
}

func (s step) sleep() (any, error) {
	time.Sleep(time.Duration(s.MS) * time.Millisecond)
	return nil, nil
}
