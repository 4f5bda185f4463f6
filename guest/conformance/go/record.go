package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A record is read strictly, which encoding/json doesn't do by itself: each key has to be there, by its exact name, and null
// is no value but for the author.

type record struct {
	Title  string   `json:"title"`
	Tags   []string `json:"tags"`
	Votes  int64    `json:"votes"`
	Ratio  float64  `json:"ratio"`
	Author *author  `json:"author"`
}

type author struct {
	Name string `json:"name"`
}

// UnmarshalJSON reads a record.
func (r *record) UnmarshalJSON(content []byte) error {
	title, tags, votes, ratio := &r.Title, []*string{}, &r.Votes, &r.Ratio
	err := readKeys(content, map[string]any{"title": &title, "tags": &tags, "votes": &votes, "ratio": &ratio, "author": &r.Author})
	switch {
	case err != nil:
		return err
	case title == nil || tags == nil || votes == nil || ratio == nil:
		return fmt.Errorf("one of title, tags, votes and ratio is null")
	}
	r.Tags = make([]string, len(tags))
	for i, tag := range tags {
		if tag == nil {
			return fmt.Errorf("one of the tags is null")
		}
		r.Tags[i] = *tag
	}
	return nil
}

// UnmarshalJSON reads an author.
func (a *author) UnmarshalJSON(content []byte) error {
	name := &a.Name
	if err := readKeys(content, map[string]any{"name": &name}); err != nil {
		return err
	}
	if name == nil {
		return fmt.Errorf("the author's name is null")
	}
	return nil
}

// readKeys decodes an object's values, each into what stands under its key. Other keys are ignored.
func readKeys(content []byte, into map[string]any) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return fmt.Errorf("it isn't an object")
	}
	found := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		key := token.(string)
		target, isKnown := into[key]
		if !isKnown {
			target = new(json.RawMessage)
		}
		if err := decoder.Decode(target); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
		found[key] = true
	}
	for key := range into {
		if !found[key] {
			return fmt.Errorf("%q is missing", key)
		}
	}
	return nil
}
