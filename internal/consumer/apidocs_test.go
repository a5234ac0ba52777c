package consumer_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/consumer"
	"orgcast/internal/testkit/apidocs"
)

// TestDescribedFrameTypes: docs/api has the fields of the frames that this package sends and reads.
func TestDescribedFrameTypes(t *testing.T) {
	d := apidocs.Read(t, apidocs.Frames)
	sent, received := consumer.Frames()
	for name, of := range sent {
		if name == "Echo" || name == "Greeting" || name == "TestAnswer" || name == "Pong" {
			d.SameFields(t, of, name)
			continue
		}
		d.Same(t, of, name)
	}
	for name, of := range received {
		schema := d.Object(t, "components", "schemas", name)
		properties, _ := schema["properties"].(apidocs.Object)
		delete(properties, "type") // it is read before the frame's other fields
		d.SameFields(t, of, name)
	}
	for _, name := range []string{"UserMessage", "CrewMessage", "StartCrew", "Edit"} {
		properties, _ := d.Object(t, "components", "schemas", name)["properties"].(apidocs.Object)
		delete(properties, "type")
	}
	d.SameFields(t, consumer.ChatMessage(), "UserMessage", "CrewMessage", "StartCrew", "Edit", "UntypedMessage")
}

// TestDescribedErrorCodes: docs/api has all codes of error frames, and no others.
func TestDescribedErrorCodes(t *testing.T) {
	d := apidocs.Read(t, apidocs.Frames)
	got := apidocs.Texts(d.At(t, "components", "schemas", "ErrorCode", "enum"))
	if diff := cmp.Diff(apidocs.Constants(t, "errors.go", "Code"), got); diff != "" {
		t.Errorf("codes: in the code (-), in docs/api (+):\n%s", diff)
	}
}

// TestDescribedControlTypes: each type of a control frame has a message in docs/api.
func TestDescribedControlTypes(t *testing.T) {
	d := apidocs.Read(t, apidocs.Frames)
	var described []string
	for _, name := range []string{"Welcome", "Subscribed", "Unsubscribed", "Gap", "Error", "Pong", "History", "TokenAccepted", "Presence", "PresenceChange"} {
		typ, _ := d.At(t, "components", "schemas", name, "properties", "type", "const").(string)
		described = append(described, typ)
	}
	slices.Sort(described)
	if diff := cmp.Diff(slices.Sorted(slices.Values(consumer.ControlTypes())), described); diff != "" {
		t.Errorf("types: in the code (-), in docs/api (+):\n%s", diff)
	}
}

// operation are the messages of docs/api in one direction of a route.
type operation struct {
	tb       testing.TB
	d        *apidocs.Document
	name     string
	messages []string
}

func operationOf(tb testing.TB, d *apidocs.Document, name string) operation {
	tb.Helper()
	o := operation{tb: tb, d: d, name: name}
	list, _ := d.Object(tb, "operations", name)["messages"].([]any)
	for _, entry := range list {
		ref, _ := entry.(apidocs.Object)["$ref"].(string)
		o.messages = append(o.messages, ref[strings.LastIndex(ref, "/")+1:])
	}
	if len(o.messages) == 0 {
		tb.Fatalf("%s has no messages", name)
	}
	return o
}

// fits returns the messages that a frame fits.
func (o operation) fits(frame []byte, protocol string) (names []string) {
	for _, name := range o.messages {
		if name == "text" || name == "flatEvent" && protocol == consumer.ProtocolV1 {
			continue
		}
		if o.d.Validate(o.tb, frame, "components", "messages", name, "payload") == nil {
			names = append(names, name)
		}
	}
	return names
}

// open reports whether a message may have a field with any name in place of this one.
func (o operation) open(message, field string) bool {
	schema := o.d.Object(o.tb, "components", "messages", message, "payload")
	if message == "flatEvent" {
		schema = o.d.Object(o.tb, "components", "schemas", "Event")
	}
	return schema["additionalProperties"] == true && !slices.Contains(apidocs.Texts(schema["required"]), field)
}

// expect checks that a frame fits a message, and that it does not with a field misspelled.
func (o operation) expect(frame []byte, protocol string) (checked int) {
	o.tb.Helper()
	names := o.fits(frame, protocol)
	if len(names) == 0 {
		o.tb.Errorf("%s: no message fits %s", o.name, frame)
		return 0
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(frame, &fields); err != nil {
		o.tb.Fatal(err)
	}
	for field := range fields {
		if slices.ContainsFunc(names, func(name string) bool { return o.open(name, field) }) {
			continue
		}
		misspelled := maps.Clone(fields)
		delete(misspelled, field)
		misspelled[field+"x"] = fields[field]
		text, err := json.Marshal(misspelled)
		if err != nil {
			o.tb.Fatal(err)
		}
		if left := o.fits(text, protocol); len(left) > 0 {
			o.tb.Errorf("%s: %v fit %s, whose field %s is misspelled", o.name, left, text, field)
		}
		checked++
	}
	return checked
}

// ignored are fields that pages must not send, and that attackers of the tables do.
var ignored = []string{"user_message html", "user_message user_id", "user_message organization_id", "cancel_research research_id", "human_input client_id"}

// TestDescribedConversations: every frame of testdata fits docs/api, in both directions. Frames of
// browsers that are refused for their form need not.
func TestDescribedConversations(t *testing.T) {
	d := apidocs.Read(t, apidocs.Frames)
	frames, fields := 0, 0
	for name := range jobConsumers(nil) {
		to, from := operationOf(t, d, name+"Send"), operationOf(t, d, name+"Receive")
		check := func(x exchange, protocol string) {
			for _, frame := range x.To {
				fields += to.expect(frame, protocol)
				frames++
			}
			if x.From == nil || x.From[0] != '{' || slices.ContainsFunc(x.To, refusesForm) || x.Ends != "" {
				return
			}
			var sent map[string]json.RawMessage
			if err := json.Unmarshal(x.From, &sent); err != nil {
				t.Fatal(err)
			}
			var typ string
			_ = json.Unmarshal(sent["type"], &typ) // some have none
			for field, value := range sent {
				if slices.Contains(ignored, typ+" "+field) || string(value) == "null" { // null is as good as nothing
					delete(sent, field)
				}
			}
			text, err := json.Marshal(sent)
			if err != nil {
				t.Fatal(err)
			}
			fields += from.expect(text, protocol)
			frames++
		}
		for _, test := range readTable[conversation](t, name) {
			check(exchange{To: test.First}, test.Protocol)
			for _, x := range test.Then {
				check(x, test.Protocol)
			}
		}
		for _, x := range readTable[exchange](t, "shared") {
			if !slices.Contains(x.Except, name) {
				check(x, "")
			}
		}
	}
	t.Logf("%d frames, %d misspelled fields", frames, fields)
	if frames < 100 || fields < 100 {
		t.Errorf("got only %d frames and %d fields", frames, fields)
	}
}

// refusesForm reports whether a frame says that the browser's was not of the right form.
func refusesForm(frame json.RawMessage) bool {
	var told consumer.ErrorFrame
	return json.Unmarshal(frame, &told) == nil && told.Type == "error" && (told.Code == consumer.CodeBadMessage || told.Code == consumer.CodeUnknownType)
}
