// Package yamlfile reads the YAML files of the gateway: one document of plain values, with the line
// of each. It is for files that people write by hand, and strict with them: every duplicate key and
// everything that a settings or routes file needs for nothing is a mistake. Files are bounded in
// size and depth, and no text makes it panic.
package yamlfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// MaxSize is the largest file, in bytes.
	MaxSize = 256 << 10
	// maxDepth is how deep lists and mappings may stand in each other. A route needs six levels
	// without its payload, and settings need two.
	maxDepth = 32
	// maxKeys is how many keys all mappings have together; the parser's time grows with the square
	// of those of one.
	maxKeys = 10_000
	// maxMessage is how long the message of a mistake is, in bytes: it may quote what the file has.
	maxMessage = 400
	// MaxMistakes is how many mistakes are told. Who made more has made one in all of them.
	MaxMistakes = 20
)

// Node is one value of a document.
type Node struct {
	Line int
	Kind Kind
	// Text is the value of a text.
	Text string
	// Raw is any other scalar as JSON, and Spelled is how the file spells it.
	Raw     json.RawMessage
	Spelled string
	// List and Object are the parts of a list and of a mapping.
	List   []*Node
	Object []Member
}

// Member is one key of a mapping, and its value.
type Member struct {
	Line  int
	Name  string
	Value *Node
}

// Kind says what a value is.
type Kind byte

// Kinds of values.
const (
	Scalar Kind = iota // a number, a truth value or null
	Text
	List
	Mapping
)

// String returns what a value of the kind is, for messages.
func (k Kind) String() string {
	return []string{"a number, true, false or null", "text", "a list", "a mapping"}[k]
}

// MistakeError is what is wrong with a file, and where. A line of 0 is the whole file.
type MistakeError struct {
	Line int
	What string
}

// Error implements error.
func (m MistakeError) Error() string {
	text := strings.ToValidUTF8(m.What[:min(len(m.What), maxMessage)], "")
	if m.Line == 0 {
		return text
	}
	return fmt.Sprintf("line %d: %s", m.Line, text)
}

// Read reads a file of at most [MaxSize] bytes. A file that grows while it is read, or never ends,
// is larger.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(text) > MaxSize {
		err = errTooLarge
	}
	return text, err
}

var errTooLarge = fmt.Errorf("is larger than %d bytes", MaxSize)

// Parse reads one document. It accepts no anchors, aliases, merge keys, tags and directives, which
// no file of ours needs and with which a small file can become a large one. Its error joins a
// [MistakeError] for each duplicate key; at anything else, it stops. A document without a value, such as
// one of comments only, is nil.
func Parse(text []byte) (n *Node, err error) {
	if len(text) > MaxSize {
		return nil, errTooLarge
	}
	defer func() {
		if recover() != nil { // in a library that was given a stranger's text
			n, err = nil, errors.New("is not valid YAML")
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // converter reports all of them
	if err != nil {
		if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
			return nil, MistakeError{e.GetToken().Position.Line, e.GetMessage()}
		}
		return nil, errors.New("is not valid YAML")
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return nil, nil //nolint:nilnil // a document without a value
	case len(bodies) > 1:
		return nil, MistakeError{bodies[1].GetToken().Position.Line, "a file has one document"}
	}
	c := new(converter)
	if n, err = c.convert(bodies[0], 0); err != nil {
		return nil, err
	}
	if len(c.mistakes) > 0 {
		return nil, errors.Join(c.mistakes...)
	}
	return n, nil
}

// checkTokens refuses what is nested too deep before it is parsed, and what is not accepted at all.
func checkTokens(tokens token.Tokens) error {
	depth, line, onLine, keys := 0, 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, onLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			onLine++ // "- - - x" nests without indentation
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType:
			return MistakeError{line, "anchors, aliases, merge keys, tags and directives are not accepted"}
		case token.MappingValueType:
			keys++
		default:
		}
		if keys > maxKeys {
			return MistakeError{line, fmt.Sprintf("the file has more than %d keys", maxKeys)}
		}
		if depth > maxDepth || onLine > maxDepth {
			return MistakeError{line, fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
		}
	}
	return nil
}

// converter collects mistakes that do not keep it from going on.
type converter struct{ mistakes []error }

// convert makes a Node of the parser's.
func (c *converter) convert(n ast.Node, depth int) (*Node, error) {
	out := &Node{Line: lineOf(n)}
	if depth > maxDepth {
		return nil, MistakeError{out.Line, fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.Kind = Mapping
		return out, c.fill(out, n.Values, depth)
	case *ast.MappingValueNode:
		out.Kind = Mapping
		return out, c.fill(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.Kind = List
		for _, value := range n.Values {
			inner, err := c.convert(value, depth+1)
			if err != nil {
				return nil, err
			}
			out.List = append(out.List, inner)
		}
	case *ast.StringNode:
		out.Kind, out.Text = Text, n.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = Text, n.Value.Value
	case *ast.BoolNode:
		out.Raw = strconv.AppendBool(nil, n.Value)
	case *ast.NullNode:
		out.Raw = json.RawMessage("null")
	case *ast.IntegerNode:
		out.Raw = number(n.Token, n.Value)
	case *ast.FloatNode:
		out.Raw = number(n.Token, n.Value)
	default:
		return nil, MistakeError{out.Line, "this kind of value is not accepted"}
	}
	if out.Kind == Scalar {
		out.Spelled = n.GetToken().Value
	}
	if out.Kind == Scalar && !json.Valid(out.Raw) {
		return nil, MistakeError{out.Line, "this number has no form in JSON"}
	}
	return out, nil
}

// fill adds the members of a mapping.
func (c *converter) fill(n *Node, values []*ast.MappingValueNode, depth int) error {
	known := make(map[string]bool)
	for _, v := range values {
		line := lineOf(v.Key)
		key, ok := v.Key.(*ast.StringNode)
		switch {
		case !ok:
			return MistakeError{line, "a key must be text; put others in quotes"}
		case known[key.Value] && len(c.mistakes) < MaxMistakes:
			c.mistakes = append(c.mistakes, MistakeError{line, fmt.Sprintf("duplicate key %q", key.Value)})
		}
		known[key.Value] = true
		value, err := c.convert(v.Value, depth+1)
		if err != nil {
			return err
		}
		n.Object = append(n.Object, Member{line, key.Value, value})
	}
	return nil
}

// number returns the JSON of a number: its own digits if they are JSON.
func number(t *token.Token, value any) json.RawMessage {
	if json.Valid([]byte(t.Value)) {
		return json.RawMessage(t.Value)
	}
	b, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return b
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// Get returns the value of a key, nil if there is none.
func (n *Node) Get(name string) *Node {
	for _, m := range n.Object {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}
