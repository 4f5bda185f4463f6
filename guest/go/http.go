package guest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Request is an HTTP request. The host follows redirects, and sets Host, Content-Length and their like itself.
type Request struct {
	Method  string // GET where it is empty
	URL     string
	Headers Headers
	Body    []byte
}

// Response is the answer to a [Request]: any status is one.
type Response struct {
	Status  int     `json:"status"`
	Headers Headers `json:"headers"`
	Body    []byte  `json:"-"`
}

// Headers are pairs of name and value, in their order.
type Headers [][2]string

// UnmarshalJSON reads headers, each of which has a name and a value.
func (h *Headers) UnmarshalJSON(content []byte) error {
	var pairs [][]string
	if err := json.Unmarshal(content, &pairs); err != nil {
		return err
	}
	*h = make(Headers, len(pairs))
	for i, pair := range pairs {
		if len(pair) != 2 {
			return fmt.Errorf("a header of %d parts", len(pair))
		}
		(*h)[i] = [2]string(pair)
	}
	return nil
}

// Get returns the first value under a name, whatever its case; "" for none.
func (h Headers) Get(name string) string {
	for _, header := range h {
		if strings.EqualFold(header[0], name) {
			return header[1]
		}
	}
	return ""
}

// Fetch sends a request and returns the response.
func Fetch(request Request) (*Response, error) {
	head := struct {
		Method  string  `json:"method"`
		URL     string  `json:"url"`
		Headers Headers `json:"headers"`
	}{request.Method, request.URL, request.Headers}
	if head.Method == "" {
		head.Method = "GET"
	}
	if head.Headers == nil {
		head.Headers = Headers{}
	}
	var answer reply
	err := encode(head, "the request", func(encoded []byte) {
		answer = ask(func() int32 { return hostHTTPRequest(asString(encoded), asString(request.Body)) })
	})
	if err != nil {
		return nil, err
	}
	if err := answer.failure(head.Method, head.URL); err != nil {
		return nil, err
	}
	response := &Response{Body: answer.body}
	if err := decodeReply(answer.head, response, head.Method, head.URL); err != nil {
		return nil, err
	}
	if response.Status == 0 || response.Headers == nil {
		return nil, badReply(head.Method, head.URL, "it has no status or no headers")
	}
	return response, nil
}
