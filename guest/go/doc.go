// Package guest is for plugins of Fuseboard in Go.
//
// A plugin is a package main, built for WebAssembly as a reactor. Each hook is an exported function that hands a
// function of yours to [Filter], [Action] or one of their kin:
//
//	//go:wasmexport post_title
//	func postTitle() { guest.Filter(shout) }
//
//	func shout(title string) (string, error) {
//		return strings.ToUpper(title), nil
//	}
//
//	func main() {} // never runs
//
//	GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 go build -buildmode=c-shared -buildvcs=false -trimpath -ldflags=-w -o plugin.wasm
//
// # Rules
//
//   - Each invocation has an instance of its own: nothing that a hook leaves in a variable is there for the next one.
//   - A hook ends by a value, by [Unchanged], or by an error, whose text is what the operator reads. A panic ends it
//     like an error, with its message and place. After an error or a panic all that the hook wrote is undone.
//   - Host calls (HTTP, database, keys and values, functions of the application) need a capability in the manifest, and
//     a module that links one without it isn't loaded. Only what a plugin calls is linked.
//   - A host call that is refused or fails gives an [*Error]; the hook may go on.
//   - Goroutines take turns: nothing runs while one waits for the host. Those that are left when a hook ends are gone.
//   - Values are JSON, by encoding/json. Numbers in an any are a [json.Number], so that no digit is lost.
//   - Compiled for anything but wasip1, settings and context are empty, the log goes to standard error and host calls
//     panic: functions of yours can be tested by go test as long as they make none.
package guest
