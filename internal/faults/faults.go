// Package faults holds no code of the product, only the tests that run whole gateways as processes
// of their own, put browsers' worth of connections on them, and then break what they stand on.
// `make test` runs them small; `make soak-faults` runs them at full size and prints the figures of
// docs/reliability.md. `make measure-beside` measures what one organization costs another one.
package faults
