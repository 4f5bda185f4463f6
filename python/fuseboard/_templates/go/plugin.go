// My Plugin: what it makes of a post's title.
package main

import (
	"strings"

	"fuseboard.dev/guest"
)

// Settings are those of plugin.toml, with the operator's over them.
type Settings struct {
	Ending string `json:"ending"`
}

// init runs once, when the plugin is loaded: what it does, no invocation pays for.
func init() { guest.Prepare[Settings]() }

// postTitle serves the hook post.title. Its value is JSON, here a string; one that isn't never gets to addEnding.
//
//go:wasmexport post_title
func postTitle() { guest.Filter(addEnding) }

// addEnding returns the new title, guest.Unchanged to leave it as it is, or an error that ends the invocation.
func addEnding(title string) (string, error) {
	title = strings.TrimSpace(title)
	if title == "" {
		return "", guest.Unchanged
	}
	var settings Settings
	if err := guest.Settings(&settings); err != nil {
		return "", err
	}
	return title + settings.Ending, nil
}

// Where to go on, all of it in package guest (go doc fuseboard.dev/guest):
//   - another hook: a [[hooks]] table in plugin.toml and a function here, with guest.Filter or guest.Action
//   - what the application says beside the value: guest.Context; what the call is about: guest.Info
//   - the log: guest.Logf(guest.LevelInfo, "%s is long", title); what is left of a limit: guest.Remaining(guest.Fuel)
//   - with a capability in plugin.toml: guest.Fetch, guest.Query, guest.KVGet, guest.Call

func main() {} // never runs
