// A function that answers with what it was sent: the smallest there is, and the one to measure a node with.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "copying the input:", err)
		os.Exit(1)
	}
}
