package sqlite

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"orama/internal/host"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

const (
	rowsMax        = 10_000
	resultMaxBytes = 32 << 20
)

// rows reads a query's rows as JSON. bytesLeft is what is left of the call's limit.
func (c *connection) rows(statement *sqlite3.Stmt, bytesLeft *int) ([]byte, *host.Failure) {
	text, count := []byte{'['}, 0
	var keys []string
	for statement.Step() {
		if count == rowsMax {
			message := fmt.Sprintf("the query returns more than %d rows; read them in parts with LIMIT", rowsMax)
			return nil, host.TooLarge(message)
		}
		// Known only with the first row: if the schema has changed, SQLite prepares the statement again at its first step.
		if count == 0 {
			keys = names(statement)
		} else {
			text = append(text, ',')
		}
		count++
		for column, key := range keys {
			if column == 0 {
				text = append(text, '{')
			} else {
				text = append(text, ',')
			}
			text = appendValue(append(text, key...), statement, column)
		}
		text = append(text, '}')
		if len(text) > *bytesLeft {
			return nil, host.TooLarge("the rows of the call exceed 32 MiB of JSON; read fewer rows or columns")
		}
	}
	if err := statement.Err(); err != nil {
		return nil, c.explain(err)
	}
	text = append(text, ']')
	if len(text) > *bytesLeft {
		return nil, host.TooLarge("the rows of the call exceed 32 MiB of JSON; read fewer rows or columns")
	}
	*bytesLeft -= len(text)
	return text, nil
}

// names are the columns' names as JSON, each with a colon. A repeated name gets the suffix :1, :2.
func names(statement *sqlite3.Stmt) []string {
	seen := map[string]bool{}
	keys := make([]string, statement.ColumnCount())
	for column := range keys {
		name := statement.ColumnName(column)
		unique := name
		for number := 1; seen[unique]; number++ {
			unique = fmt.Sprintf("%s:%d", name, number)
		}
		seen[unique] = true
		keys[column] = string(quoted(unique)) + ":"
	}
	return keys
}

func appendValue(text []byte, statement *sqlite3.Stmt, column int) []byte {
	switch statement.ColumnType(column) {
	case sqlite3.INTEGER:
		return strconv.AppendInt(text, statement.ColumnInt64(column), 10)
	case sqlite3.FLOAT:
		return appendReal(text, statement.ColumnFloat(column))
	case sqlite3.TEXT:
		return append(text, quoted(string(statement.ColumnRawText(column)))...)
	case sqlite3.BLOB:
		return append(text, quoted(base64.StdEncoding.EncodeToString(statement.ColumnRawBlob(column)))...)
	}
	return append(text, "null"...)
}

// appendReal keeps a fraction, so that a real is told from an integer. JSON has no infinity.
func appendReal(text []byte, real float64) []byte {
	if math.IsInf(real, 0) || math.IsNaN(real) {
		return append(text, "null"...)
	}
	number := strconv.FormatFloat(real, 'g', -1, 64)
	if !strings.ContainsAny(number, ".e") {
		number += ".0"
	}
	return append(text, number...)
}

// quoted writes a text as JSON. Bytes that are no UTF-8 become U+FFFD.
func quoted(text string) []byte {
	encoded, err := json.Marshal(text)
	if err != nil {
		panic("oramatest: a text has no JSON: " + err.Error())
	}
	return encoded
}
