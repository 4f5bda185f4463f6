package guest

// Call calls a function of the application with its arguments by name, and decodes what it returns.
// args is anything that encodes to a JSON object, or nil for none; it must be a map or a struct:
//
//	id, err := guest.Call[int64]("mail.send", map[string]any{"to": "editor@example.com"})
//
// For a function whose result doesn't matter, Result is any.
func Call[Result any](name string, args any) (Result, error) {
	var result Result
	if args == nil {
		args = struct{}{}
	}
	var answer reply
	err := encode(args, "the arguments of "+name, func(body []byte) {
		answer = ask(func() int32 { return hostCall(name, asString(body)) })
	})
	if err == nil {
		err = answer.failure("call", name)
	}
	if err == nil {
		err = decodeReply(answer.body, &result, "call", name)
	}
	return result, err
}
