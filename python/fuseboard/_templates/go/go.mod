module example.com/my-plugin

go 1.24

require fuseboard.dev/guest v0.0.0

replace fuseboard.dev/guest => ./fuseboard
