package orama

import (
	"bytes"
	"encoding/json"
	"time"
)

// Query runs a SELECT and returns its rows, each by the columns' names: nil for NULL, int64 for whole numbers, float64 for
// other numbers, string for text, and base64 text for blobs. QueryInto reads rows into structs.
//
// Each ? of the statement stands for one argument: nil, a bool, a number, a string, or []byte for a blob. Arguments are
// never part of the SQL, so what a caller sent is safe there and nowhere else.
func Query(sql string, args ...any) ([]map[string]any, error) {
	rows, err := query(sql, args)
	if err != nil {
		return nil, err
	}
	return decodeRows(rows)
}

// QueryInto runs a SELECT and reads its rows into dest, a pointer to a slice of structs whose json tags name the columns.
//
//	var devices []struct {
//		Token string `json:"push_token"`
//	}
//	err := orama.QueryInto(&devices, "SELECT push_token FROM devices WHERE user_id = ?", user)
func QueryInto(dest any, sql string, args ...any) error {
	rows, err := query(sql, args)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(rows, dest); err != nil {
		return failure("reading the rows: " + err.Error())
	}
	return nil
}

func query(sql string, args []any) (json.RawMessage, error) {
	encoded, err := encodeArgs(args)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Rows  json.RawMessage `json:"rows"`
		Error string          `json:"error"`
	}
	result := take(hostDBQueryV2(ptr(sql), size(sql), ptr(encoded), size(encoded)))
	keep(sql)
	keep(encoded)
	if err := decode(result, &answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, &DatabaseError{Message: answer.Error, Index: -1}
	}
	return answer.Rows, nil
}

// Result is what a statement changed.
type Result struct {
	// RowsAffected counts rows inserted, updated or deleted.
	RowsAffected int64 `json:"rows_affected"`
	// LastInsertID is the row id of the last insert.
	LastInsertID int64 `json:"last_insert_id"`
}

// Execute runs a statement that changes something. When it returns without an error the change is durable.
// Its arguments are those of Query.
func Execute(sql string, args ...any) (Result, error) {
	encoded, err := encodeArgs(args)
	if err != nil {
		return Result{}, err
	}
	var answer struct {
		Result
		Error string `json:"error"`
	}
	result := take(hostDBExecuteV2(ptr(sql), size(sql), ptr(encoded), size(encoded)))
	keep(sql)
	keep(encoded)
	if err := decode(result, &answer); err != nil {
		return Result{}, err
	}
	if answer.Error != "" {
		return Result{}, &DatabaseError{Message: answer.Error, Index: -1}
	}
	return answer.Result, nil
}

// Statement is one statement of a Transaction or a QueryBatch, made by Exec or Select.
type Statement struct {
	kind string
	sql  string
	args []any
}

// Exec makes a statement that changes something.
func Exec(sql string, args ...any) Statement { return Statement{"exec", sql, args} }

// Select makes a statement that reads rows.
func Select(sql string, args ...any) Statement { return Statement{"query", sql, args} }

// StatementResult is what one statement gave.
type StatementResult struct {
	// Result is what an Exec changed.
	Result
	rows json.RawMessage
}

// Rows returns the rows of a Select as Query does.
func (r StatementResult) Rows() ([]map[string]any, error) { return decodeRows(r.rows) }

// Into reads the rows of a Select as QueryInto does.
func (r StatementResult) Into(dest any) error {
	if err := json.Unmarshal(r.rows, dest); err != nil {
		return failure("reading the rows: " + err.Error())
	}
	return nil
}

// Transaction runs at most 100 statements: every Exec in order and all or nothing, then every Select in order. It returns a
// result for each statement. When it returns without an error the changes are durable. An error of a Select comes with
// committed true: the changes stand.
func Transaction(statements ...Statement) (results []StatementResult, committed bool, err error) {
	request, err := encodeStatements(statements, "", 0)
	if err != nil {
		return nil, false, err
	}
	result := take(hostDBTransaction(ptr(request), size(request)))
	keep(request)
	return decodeBatch(result)
}

// Consistency says how fresh the rows of a QueryBatch must be where the database has several copies.
type Consistency string

const (
	// Weak reads what the leader has.
	Weak Consistency = "weak"
	// None reads what any copy has: faster, and perhaps a moment old.
	None Consistency = "none"
	// Strong reads what the leader has, also while the leader changes: slower.
	Strong Consistency = "strong"
)

// QueryBatch runs at most 100 Selects in one call and returns a result for each.
func QueryBatch(consistency Consistency, statements ...Statement) ([]StatementResult, error) {
	return queryBatch(consistency, 0, statements)
}

// QueryBatchCached is QueryBatch for rows that may be up to maxAge old, in whole seconds: the node may answer from what it
// read before. What it wrote itself since is in them.
func QueryBatchCached(maxAge time.Duration, statements ...Statement) ([]StatementResult, error) {
	return queryBatch(Weak, maxAge, statements)
}

func queryBatch(consistency Consistency, maxAge time.Duration, statements []Statement) ([]StatementResult, error) {
	request, err := encodeStatements(statements, consistency, maxAge)
	if err != nil {
		return nil, err
	}
	result := take(hostDBQueryBatch(ptr(request), size(request)))
	keep(request)
	results, _, err := decodeBatch(result)
	return results, err
}

// DatabaseError says why the database did not do what it was asked.
type DatabaseError struct {
	// Message is for people.
	Message string
	// Code is for programs, where the database gave one: INVALID_ARGUMENT, TOO_MANY_STATEMENTS, PAYLOAD_TOO_LARGE,
	// DEADLINE_EXCEEDED, UNAVAILABLE or INTERNAL.
	Code string
	// Index is the place of the statement that failed, from 0; -1 when it was none of several.
	Index int
}

func (e *DatabaseError) Error() string { return "database: " + e.Message }

func decodeBatch(data []byte) ([]StatementResult, bool, error) {
	var answer struct {
		Committed bool `json:"committed"`
		Results   []struct {
			Result
			Rows  json.RawMessage `json:"rows"`
			Error string          `json:"error"`
		} `json:"results"`
		FailedIndex *int   `json:"failed_index"`
		Error       string `json:"error"`
		Code        string `json:"code"`
	}
	if err := decode(data, &answer); err != nil {
		return nil, false, err
	}
	results := make([]StatementResult, len(answer.Results))
	for i, result := range answer.Results {
		results[i] = StatementResult{result.Result, result.Rows}
		if result.Error != "" && answer.Error == "" {
			answer.Error, answer.FailedIndex = result.Error, &i
		}
	}
	if answer.Error == "" {
		return results, answer.Committed, nil
	}
	index := -1
	if answer.FailedIndex != nil {
		index = *answer.FailedIndex
	}
	return results, answer.Committed, &DatabaseError{Message: answer.Error, Code: answer.Code, Index: index}
}

func encodeStatements(statements []Statement, consistency Consistency, maxAge time.Duration) (string, error) {
	type op struct {
		Kind string          `json:"kind"`
		SQL  string          `json:"sql"`
		Args json.RawMessage `json:"args"`
	}
	request := struct {
		Ops         []op        `json:"ops"`
		Consistency Consistency `json:"consistency,omitempty"`
		CacheTTL    int64       `json:"cache_ttl,omitempty"`
	}{Ops: make([]op, len(statements)), Consistency: consistency, CacheTTL: int64(maxAge / time.Second)}
	for i, statement := range statements {
		args, err := encodeArgs(statement.args)
		if err != nil {
			return "", err
		}
		request.Ops[i] = op{statement.kind, statement.sql, json.RawMessage(args)}
	}
	data, err := json.Marshal(request)
	return string(data), err
}

// encodeArgs makes the JSON array of a statement's arguments. A blob is an array of numbers there, where encoding/json
// would make base64 text of it.
func encodeArgs(args []any) (string, error) {
	encoded := make([]any, len(args))
	for i, arg := range args {
		if blob, ok := arg.([]byte); ok && blob != nil {
			numbers := make([]int, len(blob))
			for j, b := range blob {
				numbers[j] = int(b)
			}
			arg = numbers
		}
		encoded[i] = arg
	}
	data, err := json.Marshal(encoded)
	if err != nil {
		return "", failure("the arguments cannot be sent: " + err.Error())
	}
	return string(data), nil
}

func decodeRows(data json.RawMessage) ([]map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	// A float64 would lose the digits of a large id.
	decoder.UseNumber()
	var rows []map[string]any
	if err := decoder.Decode(&rows); err != nil {
		return nil, failure("reading the rows: " + err.Error())
	}
	for _, row := range rows {
		for column, value := range row {
			if number, ok := value.(json.Number); ok {
				row[column] = numeric(number)
			}
		}
	}
	return rows, nil
}

func numeric(number json.Number) any {
	if whole, err := number.Int64(); err == nil {
		return whole
	}
	if real, err := number.Float64(); err == nil {
		return real
	}
	return number.String()
}

// decode reads a service's answer. An empty one says that the call itself failed; the log then has the reason.
func decode(data []byte, v any) error {
	if len(data) == 0 {
		return failure("the service did not answer")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return failure("the service's answer was not understood: " + err.Error())
	}
	return nil
}
