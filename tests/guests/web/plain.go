//go:build !warmed

package main

import "net/http"

func prepare(http.Handler) {}
