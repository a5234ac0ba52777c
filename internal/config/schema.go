package config

import (
	"encoding/json"
	"slices"
	"strings"
)

// Schema returns the JSON Schema of a settings file with the settings of the sets, for editors. If
// several sets have a setting, the first one describes it. It accepts what a file may have; what
// depends on several settings, and the form of texts, it cannot know.
func Schema(sets ...*Set) ([]byte, error) {
	properties := make(map[string]any)
	for _, set := range sets {
		for _, st := range set.settings {
			if _, ok := properties[st.name]; !ok && st.inFile() {
				properties[st.name] = st.schema()
			}
		}
	}
	return json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Orgcast settings file",
		"description": "Settings of the gateway. Flags and environment variables win over the file. " +
			"Secrets are not among them: name the files that hold them.",
		"type":                 "object",
		"additionalProperties": false,
		"properties":           properties,
	}, "", "  ")
}

// durationForm is what time.ParseDuration accepts, without a sign.
const durationForm = `^\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`

// schema returns the schema of one setting.
func (st *setting) schema() map[string]any {
	// A text is accepted for every kind, because values from templates are often quoted.
	text := map[string]any{"type": "string"}
	one := func(also map[string]any) map[string]any { return map[string]any{"anyOf": []any{also, text}} }
	out := map[string]any{"type": []string{"string", "number", "boolean"}}
	switch k := st.kind; k.name {
	case isList:
		entry := map[string]any{"type": []string{"string", "number", "boolean"}, "pattern": `^[^,]*[^,\s][^,]*$`}
		out = map[string]any{"anyOf": []any{out, map[string]any{"type": "array", "items": entry}}}
	case isChoice:
		out = map[string]any{"enum": k.choices}
	case isInteger:
		text["pattern"] = `^[+-]?[0-9]+$`
		out = one(map[string]any{"type": "integer", "minimum": k.low})
	case isNumber:
		out = one(map[string]any{"type": "number", "minimum": k.low})
	case isAboveZero:
		out = one(map[string]any{"type": "number", "exclusiveMinimum": 0})
	case isDuration:
		text["pattern"] = durationForm
		out = one(map[string]any{"const": 0}) // the only number without a unit
	case isBool:
		text["enum"] = strings.Split("1 t T TRUE true True 0 f F FALSE false False", " ")
		out = one(map[string]any{"type": "boolean"})
	case isText:
	}
	out["description"] = st.help
	if st.fallback != "" {
		out["default"] = st.fallbackValue()
	}
	return out
}

// fallbackValue returns the default as the file would have it.
func (st *setting) fallbackValue() any {
	if slices.Contains([]kindName{isInteger, isNumber, isAboveZero, isBool}, st.kind.name) {
		return json.RawMessage(st.fallback)
	}
	return st.fallback
}
