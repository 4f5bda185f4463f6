module fuseboard.dev/guest

go 1.24
