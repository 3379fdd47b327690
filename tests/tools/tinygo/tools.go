//go:build tools

// Package tools pins the TinyGo that install-tinygo.sh builds; go.sum holds its content.
package tools

import _ "github.com/tinygo-org/tinygo"
