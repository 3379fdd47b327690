package sqlite

import (
	"strings"

	"github.com/ncruces/go-sqlite3"
)

// What tenants' SQL may name: the rules of the node's own guard.

// pragmas has those that only report, and whether they may have an argument, which names a table or an index.
var pragmas = map[string]bool{
	"table_info": true, "table_xinfo": true, "table_list": true, "index_list": true, "index_info": true, "index_xinfo": true,
	"foreign_key_list": true, "foreign_key_check": true, "collation_list": false, "function_list": false,
	"user_version": false, "encoding": false, "data_version": false, "page_size": false,
}

// modules has those of virtual tables that keep their content in the database itself.
var modules = map[string]bool{"fts5": true, "fts5vocab": true, "rtree": true, "rtree_i32": true}

// refusedFunctions may not be called.
var refusedFunctions = set("load_extension edit fts3_tokenizer fts5 sqlite_log readfile writefile lsmode fsdir lsdir zipfile")

// missingFunctions are the driver's, and no node's.
var missingFunctions = set(`acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi
	pow power radians sin sinh sqrt tan tanh trunc base64 uuid uuid_str uuid_blob regexp regexpi decimal decimal_add decimal_cmp
	decimal_exp decimal_mul decimal_pow2 decimal_sub decimal_sum ieee754 ieee754_exponent ieee754_from_blob ieee754_from_int
	ieee754_inc ieee754_mantissa ieee754_to_blob ieee754_to_int geopoly_area geopoly_bbox geopoly_blob geopoly_ccw
	geopoly_contains_point geopoly_debug geopoly_group_bbox geopoly_json geopoly_overlap geopoly_regular geopoly_svg geopoly_within
	geopoly_xform`)

func set(words string) map[string]bool {
	all := map[string]bool{}
	for _, word := range strings.Fields(words) {
		all[word] = true
	}
	return all
}

// functionMessage is what a node says where the driver has a function that the node has not, or the other way round.
func functionMessage(message string) string {
	const unauthorized, unknown = "not authorized to use function: ", "no such function: "
	if name, ok := strings.CutPrefix(message, unauthorized); ok && missingFunctions[strings.ToLower(name)] {
		return unknown + name
	}
	if name, ok := strings.CutPrefix(message, unknown); ok && (name == "load_extension" || name == "fts3_tokenizer") {
		return unauthorized + name
	}
	return message
}

const (
	temporary    = "temporary tables, views and triggers are not available: they would not exist in the next call"
	transactions = "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not available: a call is a transaction; " +
		"db_transaction takes several statements"
	otherDatabases = "ATTACH, DETACH and VACUUM are not available: a namespace has exactly one database"
)

func (c *connection) authorize(action sqlite3.AuthorizerActionCode, third, fourth, schema, _ string) sqlite3.AuthorizerReturnCode {
	if c.isHost {
		return sqlite3.AUTH_OK
	}
	if why := refusal(action, third, fourth, schema); why != "" {
		c.refused = why
		return sqlite3.AUTH_DENY
	}
	return sqlite3.AUTH_OK
}

// refusal says why an action is refused; empty if it is allowed. An action that is not listed is refused.
func refusal(action sqlite3.AuthorizerActionCode, third, fourth, schema string) string {
	switch action {
	case sqlite3.AUTH_SELECT, sqlite3.AUTH_RECURSIVE, sqlite3.AUTH_READ, sqlite3.AUTH_INSERT, sqlite3.AUTH_UPDATE,
		sqlite3.AUTH_DELETE, sqlite3.AUTH_DROP_INDEX, sqlite3.AUTH_DROP_TABLE, sqlite3.AUTH_DROP_TRIGGER,
		sqlite3.AUTH_DROP_VIEW, sqlite3.AUTH_DROP_VTABLE, sqlite3.AUTH_ALTER_TABLE, sqlite3.AUTH_REINDEX,
		sqlite3.AUTH_ANALYZE:
		return ""
	case sqlite3.AUTH_FUNCTION:
		if name := strings.ToLower(fourth); refusedFunctions[name] || missingFunctions[name] {
			return "the function " + name + "() is not available"
		}
		return ""
	case sqlite3.AUTH_PRAGMA:
		takesName, known := pragmas[strings.ToLower(third)]
		if !known || (fourth != "" && !takesName) {
			return "PRAGMA " + third + " is not available in this form"
		}
		return ""
	case sqlite3.AUTH_CREATE_INDEX, sqlite3.AUTH_CREATE_TABLE, sqlite3.AUTH_CREATE_TRIGGER, sqlite3.AUTH_CREATE_VIEW:
		if schema == "main" {
			return ""
		}
		return temporary
	case sqlite3.AUTH_CREATE_VTABLE:
		if schema != "main" {
			return temporary
		}
		if !modules[strings.ToLower(fourth)] {
			return "virtual tables of the module " + fourth + " are not available"
		}
		return ""
	case sqlite3.AUTH_CREATE_TEMP_INDEX, sqlite3.AUTH_CREATE_TEMP_TABLE, sqlite3.AUTH_CREATE_TEMP_TRIGGER,
		sqlite3.AUTH_CREATE_TEMP_VIEW, sqlite3.AUTH_DROP_TEMP_INDEX, sqlite3.AUTH_DROP_TEMP_TABLE,
		sqlite3.AUTH_DROP_TEMP_TRIGGER, sqlite3.AUTH_DROP_TEMP_VIEW:
		return temporary
	case sqlite3.AUTH_TRANSACTION, sqlite3.AUTH_SAVEPOINT:
		return transactions
	case sqlite3.AUTH_ATTACH, sqlite3.AUTH_DETACH:
		return otherDatabases
	}
	return "this kind of statement is not supported"
}
