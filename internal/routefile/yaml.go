package routefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// MaxSize is the largest routes file, in bytes.
	MaxSize = 256 << 10
	// maxDepth is how deep lists and mappings may stand in each other. A route needs six levels
	// without its payload.
	maxDepth = 32
	// maxKeys is how many keys all mappings have together; the parser's time grows with the square
	// of those of one.
	maxKeys = 10_000
	// maxMessage is how long the message of a mistake is, in bytes: it may quote what the file has.
	maxMessage = 400
)

// node is one value of a YAML document.
type node struct {
	line   int
	kind   kind
	text   string          // of a text
	raw    json.RawMessage // of any other scalar
	list   []*node
	object []member
}

type member struct {
	line  int
	name  string
	value *node
}

type kind byte

const (
	isScalar kind = iota // a number, a truth value or null
	isText
	isList
	isMapping
)

func (k kind) String() string {
	return []string{"a number, true, false or null", "text", "a list", "a mapping"}[k]
}

// mistake is what is wrong with a file, and where.
type mistake struct {
	line int
	text string
}

func (m mistake) Error() string {
	return fmt.Sprintf("line %d: %s", m.line, strings.ToValidUTF8(m.text[:min(len(m.text), maxMessage)], ""))
}

// readYAML reads one document. It accepts no anchors, aliases, merge keys, tags and directives,
// which a routes file needs for nothing and with which a small file can become a large one.
func readYAML(text []byte) (n *node, err error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("is larger than %d bytes", MaxSize)
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
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
			return nil, mistake{e.GetToken().Position.Line, e.GetMessage()}
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
		return nil, errors.New("is empty")
	case len(bodies) > 1:
		return nil, mistake{bodies[1].GetToken().Position.Line, "a file has one document"}
	}
	return convert(bodies[0], 0)
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
			return mistake{line, "anchors, aliases, merge keys, tags and directives are not accepted"}
		case token.MappingValueType:
			keys++
		default:
		}
		if keys > maxKeys {
			return mistake{line, fmt.Sprintf("the file has more than %d keys", maxKeys)}
		}
		if depth > maxDepth || onLine > maxDepth {
			return mistake{line, fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
		}
	}
	return nil
}

// convert makes a node of the parser's.
func convert(n ast.Node, depth int) (*node, error) {
	out := &node{line: lineOf(n)}
	if depth > maxDepth {
		return nil, mistake{out.line, fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.kind = isMapping
		return out, out.fill(n.Values, depth)
	case *ast.MappingValueNode:
		out.kind = isMapping
		return out, out.fill([]*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.kind = isList
		for _, value := range n.Values {
			inner, err := convert(value, depth+1)
			if err != nil {
				return nil, err
			}
			out.list = append(out.list, inner)
		}
	case *ast.StringNode:
		out.kind, out.text = isText, n.Value
	case *ast.LiteralNode:
		out.kind, out.text = isText, n.Value.Value
	case *ast.BoolNode:
		out.raw = strconv.AppendBool(nil, n.Value)
	case *ast.NullNode:
		out.raw = json.RawMessage("null")
	case *ast.IntegerNode:
		out.raw = number(n.Token, n.Value)
	case *ast.FloatNode:
		out.raw = number(n.Token, n.Value)
	default:
		return nil, mistake{out.line, "this kind of value is not accepted"}
	}
	if out.kind == isScalar && !json.Valid(out.raw) {
		return nil, mistake{out.line, "this number has no form in JSON"}
	}
	return out, nil
}

// fill adds the members of a mapping.
func (n *node) fill(values []*ast.MappingValueNode, depth int) error {
	known := make(map[string]bool)
	for _, v := range values {
		line := lineOf(v.Key)
		key, ok := v.Key.(*ast.StringNode)
		switch {
		case !ok:
			return mistake{line, "a key must be text; put others in quotes"}
		case known[key.Value]:
			return mistake{line, fmt.Sprintf("duplicate key %q", key.Value)}
		}
		known[key.Value] = true
		value, err := convert(v.Value, depth+1)
		if err != nil {
			return err
		}
		n.object = append(n.object, member{line, key.Value, value})
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

// get returns the value of a key, nil if there is none.
func (n *node) get(name string) *node {
	for _, m := range n.object {
		if m.name == name {
			return m.value
		}
	}
	return nil
}
