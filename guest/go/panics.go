package guest

import (
	"runtime"
	"strconv"
	"strings"
)

// failAfterPanic ends the invocation with a panic's message and place. It must be deferred itself.
func failAfterPanic() {
	if value := recover(); value != nil {
		fail("panic: " + panicText(value) + panicPlace())
	}
}

func panicText(value any) string {
	switch value := value.(type) {
	case error:
		return value.Error()
	case string:
		return value
	case interface{ String() string }:
		return value.String()
	case int:
		return strconv.Itoa(value)
	default:
		return "a value that isn't text"
	}
}

// panicPlace returns the first place outside of the runtime below the panic, as " at file:line in function".
func panicPlace() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	panicked := false
	for {
		frame, more := frames.Next()
		isRuntime := strings.HasPrefix(frame.Function, "runtime.")
		panicked = panicked || isRuntime
		if panicked && !isRuntime {
			return " at " + lastPart(frame.File) + ":" + strconv.Itoa(frame.Line) + " in " + lastPart(frame.Function)
		}
		if !more {
			return ""
		}
	}
}

func lastPart(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}
