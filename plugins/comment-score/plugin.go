// comment-score: raises a comment's score by what looks like spam, and by its author being new here.
//
// How many comments an author has written is counted in the KV store. Where that fails, the score comes of the text alone.
package main

import (
	"strings"
	"unicode"

	"fuseboard.dev/guest"
)

const (
	perLink  = 2
	perWord  = 5
	shouting = 3
)

type comment struct {
	Author string  `json:"author"`
	Text   string  `json:"text"`
	Score  float64 `json:"score"`
}

type settings struct {
	Words    []string `json:"words"`
	Newcomer float64  `json:"newcomer"`
}

func init() {
	guest.Prepare[comment]()
	guest.Prepare[settings]()
}

//go:wasmexport comment_score
func commentScore() { guest.Filter(score) }

func main() {}

func score(c comment) (comment, error) {
	var settings settings
	if err := guest.Settings(&settings); err != nil {
		return c, err
	}
	raised := textScore(c.Text, settings.Words)
	if isNewcomer(c.Author) {
		raised += settings.Newcomer
	}
	if raised == 0 {
		return c, guest.Unchanged
	}
	c.Score += raised
	return c, nil
}

// isNewcomer counts a comment of an author, and says whether it is the first.
func isNewcomer(author string) bool {
	count, err := guest.KVIncrement("comments:"+author, 1)
	if err != nil {
		guest.Log(guest.LevelWarning, err.Error())
	}
	return count == 1
}

// textScore returns what a text is raised by.
func textScore(text string, words []string) float64 {
	lower := strings.ToLower(text)
	score := perLink * strings.Count(lower, "://")
	for _, word := range words {
		if hasWord(lower, strings.ToLower(word)) {
			score += perWord
		}
	}
	if isShouting(text) {
		score += shouting
	}
	return float64(score)
}

// hasWord says whether a text has a word that isn't part of a longer one.
func hasWord(text, word string) bool {
	for found := range strings.FieldsFuncSeq(text, isNoLetter) {
		if found == word {
			return true
		}
	}
	return false
}

func isNoLetter(char rune) bool { return !unicode.IsLetter(char) && !unicode.IsDigit(char) }

// isShouting says whether most letters of a text that has some are capitals.
func isShouting(text string) bool {
	const few = 10
	letters, capitals := 0, 0
	for _, char := range text {
		if unicode.IsLetter(char) {
			letters++
		}
		if unicode.IsUpper(char) {
			capitals++
		}
	}
	return letters >= few && capitals > letters/2
}
