package jobs_test

import (
	"os"
	"regexp"
	"testing"

	"orgcast/internal/demo/jobs"
)

// TestDefaultQuestionHasAnAnswer: the question that the chat page suggests finds the passage about
// it, in either spelling.
func TestDefaultQuestionHasAnAnswer(t *testing.T) {
	page, err := os.ReadFile("../../../web/demo/consumers/chat.js")
	if err != nil {
		t.Fatal(err)
	}
	question := regexp.MustCompile(`const QUESTION = '(.*)';`).FindSubmatch(page)
	if question == nil {
		t.Fatal("chat.js suggests no question")
	}
	for _, text := range []string{string(question[1]), "How are organizations kept apart?"} {
		if document, section := jobs.BestPassage(text); document != "security.md" || section != "How organizations are kept apart" {
			t.Errorf("%s: got %s, %s", text, document, section)
		}
	}
}
