package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"os"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Session is one ADBC connection.
type Session struct {
	database   adbc.Database
	connection adbc.Connection
}

// Open connects with ADBC's own options.
func Open(options map[string]string) (*Session, error) {
	database, err := flightsql.NewDriver(memory.DefaultAllocator).NewDatabase(options)
	if err != nil {
		return nil, err
	}
	connection, err := database.Open(context.Background())
	if err != nil {
		return nil, errors.Join(err, database.Close())
	}
	return &Session{database, connection}, nil
}

// Close ends the connection.
func (s *Session) Close() error {
	return errors.Join(s.connection.Close(), s.database.Close())
}

// Answer does what a request says.
func (s *Session) Answer(ctx context.Context, request Request) (Answer, error) {
	switch request.Do {
	case "query":
		return s.rows(ctx, request.SQL, nil)
	case "bind":
		return s.rows(ctx, request.SQL, request.Parameters)
	case "update":
		return s.update(ctx, request)
	case "schema":
		return s.schema(ctx, request.SQL)
	case "objects":
		return s.objects(ctx, request)
	case "table_schema":
		schema, err := s.connection.GetTableSchema(ctx, nil, &request.Database, request.Table)
		if err != nil {
			return nil, err
		}
		return described(schema), nil
	case "option":
		return Answer{}, s.connection.(adbc.PostInitOptions).SetOption(request.Table, request.Mode)
	case "upload":
		return s.upload(ctx, request)
	case "count":
		return s.count(ctx, request.SQL)
	case "cancel":
		return s.cancel(ctx, request)
	case "time":
		return s.time(ctx, request)
	}
	return nil, fmt.Errorf("nobody here can %s", request.Do)
}

// statement makes a statement with its SQL and calls use; it is closed whatever happens.
func (s *Session) statement(sql string, use func(adbc.Statement) error) (err error) {
	statement, err := s.connection.NewStatement()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, statement.Close()) }()
	if sql != "" {
		if err := statement.SetSqlQuery(sql); err != nil {
			return err
		}
	}
	return use(statement)
}

// read runs a query and calls use for each batch.
func (s *Session) read(ctx context.Context, sql string, parameters [][]any, use func(arrow.RecordBatch)) (*arrow.Schema, error) {
	var schema *arrow.Schema
	err := s.statement(sql, func(statement adbc.Statement) error {
		if parameters != nil {
			bound, err := batchOf(parameters)
			if err != nil {
				return err
			}
			if err := statement.Prepare(ctx); err != nil {
				return err
			}
			if err := statement.Bind(ctx, bound); err != nil {
				return err
			}
		}
		reader, _, err := statement.ExecuteQuery(ctx)
		if err != nil {
			return err
		}
		defer reader.Release()
		schema = reader.Schema()
		for reader.Next() {
			use(reader.RecordBatch())
		}
		return reader.Err()
	})
	return schema, err
}

func (s *Session) rows(ctx context.Context, sql string, parameters [][]any) (Answer, error) {
	rows := [][]any{}
	schema, err := s.read(ctx, sql, parameters, func(batch arrow.RecordBatch) { rows = append(rows, plain(batch)...) })
	if err != nil {
		return nil, err
	}
	answer := described(schema)
	answer["rows"] = rows
	return answer, nil
}

func (s *Session) update(ctx context.Context, request Request) (Answer, error) {
	count := int64(0)
	err := s.statement(request.SQL, func(statement adbc.Statement) (err error) {
		if request.Parameters != nil {
			bound, err := batchOf(request.Parameters)
			if err != nil {
				return err
			}
			if err := errors.Join(statement.Prepare(ctx), statement.Bind(ctx, bound)); err != nil {
				return err
			}
		}
		count, err = statement.ExecuteUpdate(ctx)
		return err
	})
	return Answer{"count": count}, err
}

func (s *Session) schema(ctx context.Context, sql string) (Answer, error) {
	var schema *arrow.Schema
	err := s.statement(sql, func(statement adbc.Statement) (err error) {
		schema, err = statement.(adbc.StatementExecuteSchema).ExecuteSchema(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return described(schema), nil
}

func (s *Session) objects(ctx context.Context, request Request) (Answer, error) {
	var database *string
	if request.Database != "" {
		database = &request.Database
	}
	reader, err := s.connection.GetObjects(ctx, adbc.ObjectDepthAll, nil, database, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	rows := [][]any{}
	for reader.Next() {
		rows = append(rows, plain(reader.RecordBatch())...)
	}
	return Answer{"rows": rows}, reader.Err()
}

// upload sends the batches of an Arrow file, as a stream, into a table.
func (s *Session) upload(ctx context.Context, request Request) (Answer, error) {
	file, err := os.Open(request.File)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader, err := ipc.NewReader(file)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	count, err := adbc.IngestStream(ctx, s.connection, reader, request.Table, "adbc.ingest.mode."+request.Mode,
		adbc.IngestStreamOptions{DBSchema: request.Database})
	return Answer{"count": count}, err
}

// count reads all rows and keeps none: how many, and the sum of the first column.
func (s *Session) count(ctx context.Context, sql string) (Answer, error) {
	rows, sum := int64(0), int64(0)
	_, err := s.read(ctx, sql, nil, func(batch arrow.RecordBatch) {
		rows += batch.NumRows()
		for _, value := range batch.Column(0).(*array.Int64).Int64Values() {
			sum += value
		}
	})
	return Answer{"rows": rows, "sum": sum}, err
}

// cancel runs a query and ends it through its context after a while.
func (s *Session) cancel(ctx context.Context, request Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(request.AfterMs)*time.Millisecond)
	defer cancel()
	_, err := s.read(ctx, request.SQL, nil, func(arrow.RecordBatch) {})
	if err == nil {
		return Answer{"ended": nil}, nil
	}
	return Answer{"ended": failure(err)}, nil
}

func (s *Session) time(ctx context.Context, request Request) (Answer, error) {
	seconds := []float64{}
	for range request.Times {
		started := time.Now()
		if _, err := s.read(ctx, request.SQL, nil, func(arrow.RecordBatch) {}); err != nil {
			return nil, err
		}
		seconds = append(seconds, time.Since(started).Seconds())
	}
	return Answer{"seconds": seconds}, nil
}

// batchOf makes parameters, rows of values as JSON has them, into a batch with fields "0", "1", ….
func batchOf(rows [][]any) (arrow.RecordBatch, error) {
	fields := []arrow.Field{}
	for column := range rows[0] {
		kind := arrow.DataType(arrow.Null)
		for _, row := range rows {
			switch value := row[column].(type) {
			case string:
				kind = arrow.BinaryTypes.String
			case bool:
				kind = arrow.FixedWidthTypes.Boolean
			case json.Number:
				kind = arrow.PrimitiveTypes.Int64
				if _, err := value.Int64(); err != nil {
					kind = arrow.PrimitiveTypes.Float64
				}
			}
		}
		fields = append(fields, arrow.Field{Name: fmt.Sprint(column), Type: kind, Nullable: true})
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	for _, row := range rows {
		named := map[string]any{}
		for column, value := range row {
			named[fmt.Sprint(column)] = value
		}
		line, err := json.Marshal(named)
		if err != nil {
			return nil, err
		}
		if err := builder.UnmarshalJSON(line); err != nil {
			return nil, err
		}
	}
	return builder.NewRecordBatch(), nil
}

// plain gives rows as JSON has them; what it has no word for becomes text.
func plain(batch arrow.RecordBatch) [][]any {
	rows := make([][]any, batch.NumRows())
	for at := range rows {
		for _, column := range batch.Columns() {
			value := column.GetOneForMarshal(at)
			if bytes, ok := value.([]byte); ok {
				value = hex.EncodeToString(bytes)
			}
			rows[at] = append(rows[at], value)
		}
	}
	return rows
}

func described(schema *arrow.Schema) Answer {
	names, types := []string{}, []string{}
	for _, field := range schema.Fields() {
		names = append(names, field.Name)
		types = append(types, field.Type.String())
	}
	return Answer{"columns": names, "types": types}
}

// failure tells of an error as the driver's users meet it.
func failure(err error) Answer {
	known := adbc.Error{}
	if errors.As(err, &known) {
		return Answer{"exception": "adbc.Error", "code": known.Code.String(), "message": known.Msg}
	}
	return Answer{"exception": fmt.Sprintf("%T", err), "code": nil, "message": err.Error()}
}
