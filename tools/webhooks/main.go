// Command webhooks verifies webhooks with the library of Standard Webhooks, which shares no code with
// the gateway. It reads one JSON object a line, {"key":"whsec_…","headers":{…},"body":"…"}, and prints
// for each "ok" or what is wrong.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type webhook struct {
	Key     string
	Headers http.Header
	Body    string
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(verdict(lines.Bytes()))
	}
}

// verdict returns what the library says of a webhook.
func verdict(line []byte) string {
	var w webhook
	if err := json.Unmarshal(line, &w); err != nil {
		return err.Error()
	}
	library, err := standardwebhooks.NewWebhook(w.Key)
	if err == nil {
		err = library.Verify([]byte(w.Body), w.Headers)
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}
