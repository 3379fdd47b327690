package oramalog

import (
	"log/slog"
	"testing"
)

func TestARecordIsALineWithoutItsTime(t *testing.T) {
	handler := Handler(&slog.HandlerOptions{Level: slog.LevelDebug})
	logger := slog.New(handler).With("user", "anna").WithGroup("order")
	logger.Debug("paid", "id", 7, "text", "two words")
	if got := handler.(*textHandler).last.text; got != `level=DEBUG msg=paid user=anna order.id=7 order.text="two words"` {
		t.Errorf("%q", got)
	}
}
