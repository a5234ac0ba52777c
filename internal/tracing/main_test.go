package tracing_test

import (
	"testing"

	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
