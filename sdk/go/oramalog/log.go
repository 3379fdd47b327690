// Package oramalog lets programs of log/slog write to the log of their invocation. It is a package of its own because log/slog
// makes every program larger that imports it.
package oramalog

import (
	"context"
	"log/slog"
	"orama"
	"strings"
	"sync"
)

// Handler returns a handler of log/slog that writes to the invocation's log: one message a record, in the form of
// slog.TextHandler, without a time, which the node adds. Records of level Error have the level error there, all others info.
//
//	slog.SetDefault(slog.New(oramalog.Handler(nil)))
func Handler(options *slog.HandlerOptions) slog.Handler {
	var settings slog.HandlerOptions
	if options != nil {
		settings = *options
	}
	replace := settings.ReplaceAttr
	settings.ReplaceAttr = func(groups []string, attribute slog.Attr) slog.Attr {
		if len(groups) == 0 && attribute.Key == slog.TimeKey {
			return slog.Attr{}
		}
		if replace != nil {
			return replace(groups, attribute)
		}
		return attribute
	}
	last := &line{}
	return &textHandler{slog.NewTextHandler(last, &settings), last}
}

type textHandler struct {
	text slog.Handler
	last *line
}

// line is what the text handler has written last.
type line struct {
	// of one record at a time.
	writing sync.Mutex
	text    string
}

func (l *line) Write(data []byte) (int, error) {
	l.text = strings.TrimSuffix(string(data), "\n")
	return len(data), nil
}

func (h *textHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.text.Enabled(ctx, level)
}

func (h *textHandler) Handle(ctx context.Context, record slog.Record) error {
	h.last.writing.Lock()
	defer h.last.writing.Unlock()
	if err := h.text.Handle(ctx, record); err != nil {
		return err
	}
	if record.Level >= slog.LevelError {
		orama.LogError(h.last.text)
	} else {
		orama.LogInfo(h.last.text)
	}
	return nil
}

func (h *textHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &textHandler{h.text.WithAttrs(attributes), h.last}
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	return &textHandler{h.text.WithGroup(name), h.last}
}
