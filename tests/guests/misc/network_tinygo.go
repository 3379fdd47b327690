//go:build tinygo

package main

// network does nothing: TinyGo has no network for wasip1.
func network(func(string, error)) {}
