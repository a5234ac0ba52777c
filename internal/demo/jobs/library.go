package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"io/fs"
	"math"
	"slices"
	"strings"
	"unicode"

	"orgcast/docs"
	"orgcast/internal/task"
)

// passage is a part of a document below one heading.
type passage struct {
	document, heading, text string
	words                   map[string]int // counts by stem
	length                  float64        // in words
}

// library holds the project's documents in passages. It does not change after it was created.
type library struct {
	documents []string // in the order of their names
	passages  []passage
	rarity    map[string]float64 // by word: higher if fewer passages have it
	mean      float64            // length of a passage
}

// newLibrary reads the documents.
func newLibrary() *library {
	l := new(library)
	names, err := fs.Glob(docs.Files, "*.md")
	if err != nil {
		panic("jobs: " + err.Error()) // the pattern is a constant
	}
	for _, name := range names {
		text, err := docs.Files.ReadFile(name)
		if err != nil {
			panic("jobs: " + err.Error()) // the file is part of the program
		}
		l.add(name, string(text))
	}
	seen := make(map[string]int)
	for _, p := range l.passages {
		l.mean += p.length / float64(len(l.passages))
		for word := range p.words {
			seen[word]++
		}
	}
	l.rarity = make(map[string]float64, len(seen))
	for word, n := range seen {
		l.rarity[word] = math.Log(1 + float64(len(l.passages))/float64(n))
	}
	return l
}

// add splits a document at its headings. Lines in code blocks are not headings.
func (l *library) add(document, text string) {
	l.documents = append(l.documents, document)
	heading, code := document, false
	var b strings.Builder
	flush := func() {
		body := clip(plain(b.String()), 4000)
		b.Reset()
		if body == "" {
			return
		}
		p := passage{document: document, heading: heading, text: body, words: make(map[string]int)}
		for _, word := range wordsOf(body) {
			p.words[stem(word)]++
			p.length++
		}
		for _, word := range wordsOf(heading) {
			p.words[stem(word)] += 5 // the topic of a passage counts more than a mention
		}
		l.passages = append(l.passages, p)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			code = !code
			continue
		}
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' && !code {
			flush()
			heading = plain(strings.TrimSpace(title))
			continue
		}
		b.WriteString(line)
	}
	flush()
}

// plain removes Markdown markup that disturbs reading.
func plain(text string) string {
	return strings.NewReplacer("`", "", "**", "", "| --- ", "", "|", " ", "[", "", "](", " (").Replace(text)
}

// wordsOf returns the significant words of a text, in lower case.
func wordsOf(text string) []string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return slices.DeleteFunc(words, func(word string) bool { return len(word) < 3 || len(word) > 40 || slices.Contains(fillers(), word) })
}

// stem maps singular and plural, and both spellings of words like organization, to one word.
func stem(word string) string {
	word = strings.Replace(word, "isation", "ization", 1)
	if len(word) > 3 && !strings.HasSuffix(word, "ss") {
		return strings.TrimSuffix(word, "s")
	}
	return word
}

// fillers returns words that every text has.
func fillers() []string {
	return []string{
		"and", "are", "but", "can", "does", "for", "from", "has", "have", "how", "into", "its", "not", "that", "the", "their", "them",
		"there", "they", "this", "was", "what", "when", "where", "which", "who", "why", "will", "with", "you", "your",
	}
}

// hit is a passage that matches a question.
type hit struct {
	Document string  `json:"document"`
	Section  string  `json:"section"`
	Excerpt  string  `json:"excerpt"`
	Score    float64 `json:"score"`
}

// betterFirst orders hits, best first.
func betterFirst(a, b hit) int { return cmp.Compare(b.Score, a.Score) }

// find returns the passages of one document that match any of the words, best first. Without a
// document, it searches all.
func (l *library) find(words []string, document string) []hit {
	var hits []hit
	for _, p := range l.passages {
		if document != "" && p.document != document {
			continue
		}
		score := 0.0
		for _, word := range words {
			n := float64(p.words[stem(word)])
			score += l.rarity[stem(word)] * n / (n + 0.3 + 0.9*p.length/l.mean) // as BM25: long ones have every word
		}
		if score > 0 {
			hits = append(hits, hit{p.document, p.heading, excerpt(p.text, words), math.Round(100*score) / 100})
		}
	}
	slices.SortStableFunc(hits, betterFirst)
	return hits
}

// excerpt returns the part of a text around the first occurrence of one of the words.
func excerpt(text string, words []string) string {
	lower := strings.ToLower(text)
	at := len(text)
	for _, word := range words {
		if i := strings.Index(lower, stem(word)); i >= 0 && i < at {
			at = i
		}
	}
	if at == len(text) || len(lower) != len(text) {
		return clip(text, 300)
	}
	start := strings.LastIndex(text[:at], ". ") + 1 // the beginning of the sentence, or of the text
	return clip(text[start:], 300)
}

// toolSearch is the name of the tool that searches the documents.
const toolSearch = "search_docs"

// search is the tool: {"query":…} in, the best passages out.
func (l *library) search(_ context.Context, _ *task.Store, input json.RawMessage) (json.RawMessage, error) {
	var in struct {
		Query string `json:"query"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, task.Fail(codeBadPayload)
	}
	hits := l.find(wordsOf(in.Query), "")
	return json.Marshal(append([]hit{}, hits[:min(len(hits), 3)]...))
}
