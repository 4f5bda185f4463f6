module fuseboard.dev/plugins/comment-score

go 1.24

require fuseboard.dev/guest v0.0.0

replace fuseboard.dev/guest => ../../guest/go
