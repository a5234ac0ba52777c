// Command go is a hook for a declared route, with nothing but the standard library: go run . KEY_FILE [PORT].
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// reports are titles by organization and id; yours are in a database.
var reports = map[string]map[int]string{"acme": {7: "Sales"}, "globex": {7: "Costs"}}

type question struct {
	Event        string
	Organization string `json:"organization_id"`
	User         string `json:"user_id"`
	Params       struct{ ID int }
	Message      struct{ Type string }
}

type object = map[string]any

// decide returns the status and the answer. Everything is inside q.Organization.
func decide(q question) (int, object) {
	title, ok := reports[q.Organization][q.Params.ID]
	switch {
	case !ok:
		return http.StatusNotFound, object{}
	case q.Event == "connect":
		return http.StatusOK, object{"groups": []string{fmt.Sprint("report_", q.Params.ID)}, "send": []object{{"type": "report", "id": q.Params.ID, "title": title}}}
	case q.Event == "receive" && q.Message.Type == "refresh":
		return http.StatusOK, object{"task": object{"kind": "report_refresh", "payload": object{"report": q.Params.ID}}}
	case q.Event == "receive" && q.Message.Type == "leave":
		return http.StatusOK, object{"close": "done"}
	case q.Event == "disconnect":
		fmt.Fprintln(os.Stdout, "left", q.Organization, q.User)
	}
	return http.StatusOK, object{}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.Fields(string(text))[0], "whsec_"))
	if err != nil {
		panic(err)
	}
	var seen sync.Map // id of a call → its answer, so that a repeated call is not done twice
	hook := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
		signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		seconds, _ := strconv.ParseInt(at, 10, 64)
		signed := time.Since(time.Unix(seconds, 0)).Abs() < 5*time.Minute
		if q := (question{}); signed && hasSignature(r, signature) && json.Unmarshal(body, &q) == nil {
			once, _ := seen.LoadOrStore(id, sync.OnceValues(func() (int, object) { return decide(q) })) // forget old ones
			status, answer := once.(func() (int, object))()
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(answer)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+append(os.Args, "8090")[2])
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, "listening on", l.Addr().(*net.TCPAddr).Port)
	panic((&http.Server{Handler: http.HandlerFunc(hook), ReadHeaderTimeout: 5 * time.Second}).Serve(l))
}

func hasSignature(r *http.Request, signature string) bool {
	for part := range strings.FieldsSeq(r.Header.Get("webhook-signature")) {
		if hmac.Equal([]byte(part), []byte(signature)) {
			return true
		}
	}
	return false
}
