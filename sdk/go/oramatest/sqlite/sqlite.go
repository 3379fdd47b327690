// Package sqlite gives the tests of package oramatest a database: a SQLite in memory, new for each host, that takes and refuses
// what a node takes and refuses. It is imported for that alone:
//
//	import _ "orama/oramatest/sqlite"
//
// It is a module of its own, so that functions and tests without a database need no driver.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"orama/internal/host"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/ext/fts5"
	"github.com/ncruces/go-sqlite3/ext/rtree"
	"github.com/ncruces/go-sqlite3/vfs/memdb"
)

// The limits of a node's databases.
const (
	statementsMax  = 100
	sqlMaxBytes    = 1 << 20
	valueMaxBytes  = 4 << 20
	instructionMax = 250_000
	patternMax     = 1000
	triggerDepth   = 32
	// patience is the time of one call. A function may not run longer unless function.yaml says so.
	patience = 30 * time.Second
)

func init() { host.OpenDatabase = open }

// database has two connections, as on a node: what a connection knows of the last statements, such as last_insert_rowid(), a
// query on its own does not see.
type database struct {
	name           string
	writer, reader *connection
}

// connection is one connection and why its guard last refused something.
type connection struct {
	*sqlite3.Conn
	isHost  bool
	refused string
}

func open() (host.Database, error) {
	opened := &database{name: fmt.Sprintf("oramatest-%x", rand.Uint64())}
	memdb.Create(opened.name, nil)
	var err error
	if opened.writer, err = connect(opened.name); err == nil {
		opened.reader, err = connect(opened.name)
	}
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

func (d *database) Close() error {
	var failed error
	for _, each := range []*connection{d.reader, d.writer} {
		if each != nil {
			failed = errors.Join(failed, each.Close())
		}
	}
	memdb.Delete(d.name)
	return failed
}

// connect opens a connection with the settings of a node's.
func connect(name string) (*connection, error) {
	conn, err := sqlite3.Open("file:/" + name + "?vfs=memdb")
	if err != nil {
		return nil, err
	}
	made := &connection{Conn: conn}
	if err := made.prepareForTenants(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return made, nil
}

func (c *connection) prepareForTenants() error {
	for _, register := range []func(*sqlite3.Conn) error{fts5.Register, rtree.Register} {
		if err := register(c.Conn); err != nil {
			return err
		}
	}
	for setting, value := range map[sqlite3.DBConfig]bool{
		sqlite3.DBCONFIG_ENABLE_FKEY:           true,
		sqlite3.DBCONFIG_DQS_DML:               true,
		sqlite3.DBCONFIG_DQS_DDL:               true,
		sqlite3.DBCONFIG_DEFENSIVE:             true,
		sqlite3.DBCONFIG_TRUSTED_SCHEMA:        false,
		sqlite3.DBCONFIG_ENABLE_FTS3_TOKENIZER: false,
	} {
		if _, err := c.Config(setting, value); err != nil {
			return err
		}
	}
	for limit, value := range map[sqlite3.LimitCategory]int{
		sqlite3.LIMIT_LENGTH:              valueMaxBytes,
		sqlite3.LIMIT_SQL_LENGTH:          sqlMaxBytes,
		sqlite3.LIMIT_VDBE_OP:             instructionMax,
		sqlite3.LIMIT_LIKE_PATTERN_LENGTH: patternMax,
		sqlite3.LIMIT_TRIGGER_DEPTH:       triggerDepth,
		sqlite3.LIMIT_ATTACHED:            0,
	} {
		c.Limit(limit, value)
	}
	return c.SetAuthorizer(c.authorize)
}

// asHost runs a statement of the node's own.
func (c *connection) asHost(sql string) error {
	c.isHost = true
	defer func() { c.isHost = false }()
	return c.Exec(sql)
}

// Run implements host.Database.
func (d *database) Run(statements []host.Statement, isWrite bool) host.Outcome {
	if failure := check(statements, isWrite); failure != nil {
		return host.Outcome{Failure: failure}
	}
	connection, hasExecs := d.reader, false
	if isWrite {
		connection = d.writer
	}
	for _, statement := range statements {
		hasExecs = hasExecs || statement.IsExec
	}
	deadline, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	connection.SetInterrupt(deadline)
	defer connection.SetInterrupt(context.Background())
	results := make([]*host.Result, len(statements))
	if hasExecs {
		if failure := connection.execs(statements, results); failure != nil {
			return host.Outcome{Failure: failure}
		}
	}
	failure := connection.queries(statements, results)
	outcome := host.Outcome{IsCommitted: hasExecs || failure == nil, Failure: failure}
	for index, result := range results {
		if result != nil && (failure == nil || failure.Index < 0 || index < failure.Index) {
			outcome.Results = append(outcome.Results, *result)
		}
	}
	return outcome
}

// check refuses what needs no database to be refused.
func check(statements []host.Statement, isWrite bool) *host.Failure {
	if len(statements) > statementsMax {
		message := fmt.Sprintf("%d statements in one call; at most %d are allowed", len(statements), statementsMax)
		return &host.Failure{Index: -1, Code: "TOO_MANY_STATEMENTS", Message: message}
	}
	for index, statement := range statements {
		switch {
		case len(statement.SQL) > sqlMaxBytes:
			return host.TooLarge("the statement is longer than 1 MiB").At(index)
		case strings.Contains(statement.SQL, "\x00"):
			return host.Invalid("the statement contains a zero byte; remove it").At(index)
		case statement.IsExec && !isWrite:
			return host.Invalid("a batch of reads may contain only queries").At(index)
		}
	}
	return nil
}

// execs runs the execs in one transaction.
func (c *connection) execs(statements []host.Statement, results []*host.Result) *host.Failure {
	if err := c.asHost("BEGIN IMMEDIATE"); err != nil {
		return c.explain(err)
	}
	defer c.endTransaction()
	for index, statement := range statements {
		if !statement.IsExec {
			continue
		}
		before := c.TotalChanges()
		prepared, failure := c.prepare(statement)
		if failure != nil {
			return failure.At(index)
		}
		// The rows of RETURNING are ignored.
		for prepared.Step() {
		}
		err := prepared.Err()
		prepared.Close()
		if err != nil {
			return c.explain(err).At(index)
		}
		result := host.Result{IsExec: true, LastInsertID: c.LastInsertRowID()}
		if c.TotalChanges() != before {
			result.RowsAffected = c.Changes()
		}
		results[index] = &result
	}
	if err := c.asHost("COMMIT"); err != nil {
		return c.explain(err)
	}
	return nil
}

func (c *connection) queries(statements []host.Statement, results []*host.Result) *host.Failure {
	bytesLeft := resultMaxBytes
	for index, statement := range statements {
		if statement.IsExec {
			continue
		}
		prepared, failure := c.prepare(statement)
		if failure != nil {
			return failure.At(index)
		}
		result := host.Result{}
		if prepared.ReadOnly() {
			result.Rows, failure = c.rows(prepared, &bytesLeft)
		} else {
			failure = host.Invalid("a query may not change anything; run this statement as an exec")
		}
		prepared.Close()
		if failure != nil {
			return failure.At(index)
		}
		results[index] = &result
	}
	return nil
}

// endTransaction rolls back what was not committed. SQLite does that itself after some errors.
func (c *connection) endTransaction() {
	if !c.GetAutocommit() {
		// A deadline that has passed would stop this too.
		c.SetInterrupt(context.Background())
		if err := c.asHost("ROLLBACK"); err != nil {
			panic(fmt.Sprintf("oramatest: a transaction could not be rolled back: %v", err))
		}
	}
}

// prepare prepares a statement and binds its arguments.
func (c *connection) prepare(statement host.Statement) (*sqlite3.Stmt, *host.Failure) {
	c.refused = ""
	prepared, tail, err := c.Prepare(statement.SQL)
	if err != nil {
		return nil, c.explain(err)
	}
	if tail != "" {
		another, _, err := c.Prepare(tail)
		if err != nil {
			prepared.Close()
			return nil, c.explain(err)
		}
		if another != nil {
			another.Close()
			prepared.Close()
			return nil, host.Invalid("the string has more than one SQL statement")
		}
	}
	count := 0
	if prepared != nil {
		count = prepared.BindCount()
	}
	if count != len(statement.Args) {
		prepared.Close()
		message := fmt.Sprintf("the statement has %d parameters, but %d arguments were given", count, len(statement.Args))
		return nil, host.Invalid(message)
	}
	if prepared == nil {
		return nil, host.Invalid("the string has no SQL statement")
	}
	for index, argument := range statement.Args {
		if err := bind(prepared, index+1, argument); err != nil {
			prepared.Close()
			return nil, c.explain(err)
		}
	}
	return prepared, nil
}

func bind(statement *sqlite3.Stmt, index int, value any) error {
	switch value := value.(type) {
	case nil:
		return statement.BindNull(index)
	case int64:
		return statement.BindInt64(index, value)
	case float64:
		return statement.BindFloat(index, value)
	case string:
		return statement.BindText(index, value)
	case []byte:
		if len(value) == 0 {
			return statement.BindZeroBlob(index, 0)
		}
		return statement.BindBlob(index, value)
	}
	return fmt.Errorf("a %T is no SQL value", value)
}

// explain is the node's failure for an error of SQLite.
func (c *connection) explain(err error) *host.Failure {
	message := functionMessage(messageOf(err))
	switch {
	case errors.Is(err, sqlite3.INTERRUPT):
		message = "the invocation's deadline passed while the database worked"
		return &host.Failure{Index: -1, Code: "DEADLINE_EXCEEDED", Message: message}
	case errors.Is(err, sqlite3.AUTH):
		if c.refused != "" {
			message = c.refused
		}
		return host.Invalid(message)
	case errors.Is(err, sqlite3.TOOBIG):
		return host.TooLarge(message + "; a value or a row may have 4 MiB")
	}
	return host.Invalid(message)
}

// messageOf is SQLite's own message. The driver writes the meaning of the code before it.
func messageOf(err error) string {
	text := err.Error()
	var detailed *sqlite3.Error
	if errors.As(err, &detailed) {
		if message, ok := strings.CutPrefix(text, detailed.ExtendedCode().Error()+": "); ok {
			return message
		}
	}
	return strings.TrimPrefix(text, "sqlite3: ")
}
