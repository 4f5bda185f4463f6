package main

import "testing"

func TestTextScore(t *testing.T) {
	words := []string{"casino", "Größe"}
	for text, want := range map[string]float64{
		"":                                0,
		"Thanks for the post, NASA!":      0,
		"see https://a.example ftp://b":   2 * perLink,
		"the best Casino, CASINO!":        perWord,
		"occasinos are fine":              0,
		"in GRÖSSE größe.":                perWord,
		"BUY THIS, it is very cheap":      0,
		"BUY THIS NOW, IT IS CHEAP":       shouting,
		"GO TO HTTPS://A.EXAMPLE, CASINO": perLink + perWord + shouting,
	} {
		if got := textScore(text, words); got != want {
			t.Errorf("%q: %v, not %v", text, got, want)
		}
	}
}
