package guestslog

import (
	"io"
	"log/slog"
	"os"
	"testing"
)

// A record is a line of message and attributes, at the level that its own comes to.
func TestHandler(t *testing.T) {
	lines := written(t, func() {
		log := slog.New(NewHandler(slog.LevelInfo)).With("site", 42)
		log.Debug("below")
		log.Info("saved")
		log.WithGroup("http").Warn("slow answer", "url", "https://example.com/a b", "time", 3)
		log.Log(t.Context(), LevelCritical, "gone")
	})
	want := "info: saved site=42\n" +
		"warning: slow answer site=42 http.url=\"https://example.com/a b\" http.time=3\n" +
		"critical: gone site=42\n"
	if lines != want {
		t.Errorf("got:\n%swant:\n%s", lines, want)
	}
}

// written returns what goes to standard error meanwhile: the log outside of a host.
func written(t *testing.T, run func()) string {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = writer
	run()
	os.Stderr = before
	writer.Close()
	content, _ := io.ReadAll(reader)
	return string(content)
}
