// Package guestslog writes records of log/slog to the plugin's log.
//
//	slog.SetDefault(slog.New(guestslog.NewHandler(slog.LevelInfo)))
//	slog.Warn("slow answer", "url", url, "seconds", 3)
//
// A record is a line of its message and its attributes: `slow answer url=https://example.com seconds=3`.
// It is a package of its own, as log/slog makes a module 0.3 MB larger.
package guestslog

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"

	"fuseboard.dev/guest"
)

// LevelCritical is slog's level for what the plugin's log calls critical.
const LevelCritical = slog.Level(12)

// Handler is a [slog.Handler]. Levels between slog's own belong to the one below.
type Handler struct {
	options slog.HandlerOptions
	with    []func(slog.Handler) slog.Handler // attributes and groups, in their order
}

// NewHandler returns a handler of records from a level on.
func NewHandler(level slog.Leveler) *Handler {
	return &Handler{options: slog.HandlerOptions{Level: level, ReplaceAttr: withoutOwn}}
}

// withoutOwn leaves out what isn't an attribute of the caller: time, level and message.
func withoutOwn(groups []string, attribute slog.Attr) slog.Attr {
	switch attribute.Key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey:
		if len(groups) == 0 {
			return slog.Attr{}
		}
	}
	return attribute
}

// Enabled says whether records of a level are written.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.options.Level.Level()
}

// Handle writes a record.
func (h *Handler) Handle(ctx context.Context, record slog.Record) error {
	var attributes bytes.Buffer
	var text slog.Handler = slog.NewTextHandler(&attributes, &h.options)
	for _, added := range h.with {
		text = added(text)
	}
	if err := text.Handle(ctx, record); err != nil {
		return err
	}
	guest.Log(guestLevel(record.Level), strings.TrimSpace(record.Message+" "+attributes.String()))
	return nil
}

// WithAttrs returns a handler that writes these attributes with each record.
func (h *Handler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return h.adding(func(text slog.Handler) slog.Handler { return text.WithAttrs(attributes) })
}

// WithGroup returns a handler that puts a name in front of what is added later.
func (h *Handler) WithGroup(name string) slog.Handler {
	return h.adding(func(text slog.Handler) slog.Handler { return text.WithGroup(name) })
}

func (h *Handler) adding(added func(slog.Handler) slog.Handler) *Handler {
	return &Handler{h.options, append(slices.Clip(h.with), added)}
}

func guestLevel(level slog.Level) guest.Level {
	switch {
	case level < slog.LevelInfo:
		return guest.LevelDebug
	case level < slog.LevelWarn:
		return guest.LevelInfo
	case level < slog.LevelError:
		return guest.LevelWarning
	case level < LevelCritical:
		return guest.LevelError
	default:
		return guest.LevelCritical
	}
}
