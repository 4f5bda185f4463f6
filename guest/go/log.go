package guest

import (
	"fmt"
	"strconv"
)

// Level is how much a line of the log matters.
type Level int32

// The levels.
const (
	LevelDebug    Level = levelDebug
	LevelInfo     Level = levelInfo
	LevelWarning  Level = levelWarning
	LevelError    Level = levelError
	LevelCritical Level = levelCritical
)

var levelNames = [...]string{"debug", "info", "warning", "error", "critical"}

// String returns the level's name, such as "warning".
func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return "level " + strconv.Itoa(int(l))
	}
	return levelNames[l]
}

// Log writes a line to the plugin's log. An unknown level ends the invocation.
func Log(level Level, message string) { hostLog(int32(level), message) }

// Logf writes a line to the plugin's log, formatted as by [fmt.Sprintf].
func Logf(level Level, format string, args ...any) { Log(level, fmt.Sprintf(format, args...)) }
