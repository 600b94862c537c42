package skyflight;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One JDBC connection and what is done with it. */
final class Session implements AutoCloseable {
  private final Connection connection;

  Session(String url) throws SQLException {
    connection = DriverManager.getConnection(url);
  }

  Object answer(String what, JsonObject request) throws Exception {
    String sql = Main.text(request, "sql");
    switch (what) {
      case "query":
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
          return read(rows);
        }
      case "bind":
        return bind(sql, request.getAsJsonArray("parameters"));
      case "update":
        try (Statement statement = connection.createStatement()) {
          return Map.of("count", statement.executeLargeUpdate(sql));
        }
      case "execute":
        return execute(sql);
      case "batch":
        return batch(sql, request.getAsJsonArray("rows"));
      case "schema":
        return schema(sql);
      case "parameters":
        return parameters(sql);
      case "databases":
        try (ResultSet rows = connection.getMetaData().getSchemas("skyflight", null)) {
          return read(rows);
        }
      case "tables":
        try (ResultSet rows = connection.getMetaData().getTables(null, Main.text(request, "database"), null, null)) {
          return read(rows);
        }
      case "columns":
        try (ResultSet rows =
            connection
                .getMetaData()
                .getColumns(null, Main.text(request, "database"), Main.text(request, "table"), null)) {
          return read(rows);
        }
      case "imported":
        try (ResultSet rows =
            connection.getMetaData().getImportedKeys(null, Main.text(request, "database"), Main.text(request, "table"))) {
          return read(rows);
        }
      case "primary":
        try (ResultSet rows =
            connection.getMetaData().getPrimaryKeys(null, Main.text(request, "database"), Main.text(request, "table"))) {
          return read(rows);
        }
      case "count":
        return count(sql);
      case "cancel":
        return cancel(sql, request.get("after_ms").getAsLong());
      case "time":
        return time(sql, request.get("times").getAsInt());
      case "getters":
        return Getters.all(connection.getMetaData(), request.getAsJsonObject("arguments"));
      default:
        throw new IllegalArgumentException("nobody here can " + what);
    }
  }

  private Object bind(String sql, JsonArray parameters) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      set(statement, parameters);
      try (ResultSet rows = statement.executeQuery()) {
        return read(rows);
      }
    }
  }

  /** Whatever the statement is: its rows, or how many it changed. */
  private Object execute(String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      if (statement.execute(sql)) {
        try (ResultSet rows = statement.getResultSet()) {
          return read(rows);
        }
      }
      return Map.of("count", statement.getLargeUpdateCount());
    }
  }

  private Object batch(String sql, JsonArray rows) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (JsonElement row : rows) {
        set(statement, row.getAsJsonArray());
        statement.addBatch();
      }
      long count = 0;
      for (int changed : statement.executeBatch()) {
        count += changed;
      }
      return Map.of("count", count);
    }
  }

  private static void set(PreparedStatement statement, JsonArray parameters) throws SQLException {
    for (int i = 0; i < parameters.size(); i++) {
      JsonElement value = parameters.get(i);
      if (value.isJsonNull()) {
        statement.setNull(i + 1, Types.NULL);
        continue;
      }
      JsonPrimitive primitive = value.getAsJsonPrimitive();
      if (primitive.isBoolean()) {
        statement.setBoolean(i + 1, primitive.getAsBoolean());
      } else if (primitive.isString()) {
        statement.setString(i + 1, primitive.getAsString());
      } else if (primitive.getAsString().matches("-?\\d+")) {
        statement.setLong(i + 1, primitive.getAsLong());
      } else {
        statement.setDouble(i + 1, primitive.getAsDouble());
      }
    }
  }

  private Object schema(String sql) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      return described(statement.getMetaData());
    }
  }

  private Object parameters(String sql) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      ParameterMetaData parameters = statement.getParameterMetaData();
      List<String> types = new ArrayList<>();
      for (int i = 1; i <= parameters.getParameterCount(); i++) {
        types.add(parameters.getParameterTypeName(i));
      }
      return Map.of("types", types);
    }
  }

  private static Map<String, Object> described(ResultSetMetaData columns) throws SQLException {
    List<String> names = new ArrayList<>();
    List<String> types = new ArrayList<>();
    for (int i = 1; i <= columns.getColumnCount(); i++) {
      names.add(columns.getColumnLabel(i));
      types.add(columns.getColumnTypeName(i));
    }
    Map<String, Object> told = new LinkedHashMap<>();
    told.put("columns", names);
    told.put("types", types);
    return told;
  }

  static Map<String, Object> read(ResultSet rows) throws SQLException {
    Map<String, Object> told = described(rows.getMetaData());
    int width = rows.getMetaData().getColumnCount();
    List<List<Object>> read = new ArrayList<>();
    while (rows.next()) {
      List<Object> row = new ArrayList<>(width);
      for (int i = 1; i <= width; i++) {
        row.add(plain(rows.getObject(i)));
      }
      read.add(row);
    }
    told.put("rows", read);
    return told;
  }

  /** A value as JSON has it: numbers, text, true and false stay, the rest becomes text. */
  private static Object plain(Object value) throws SQLException {
    if (value == null || value instanceof Boolean || value instanceof String) {
      return value;
    }
    if (value instanceof BigDecimal decimal) {
      return decimal.toPlainString();
    }
    if (value instanceof Number) {
      return value;
    }
    if (value instanceof byte[] bytes) {
      return HexFormat.of().formatHex(bytes);
    }
    if (value instanceof java.sql.Array array) {
      Object[] items = (Object[]) array.getArray();
      List<Object> plain = new ArrayList<>();
      for (Object item : items) {
        plain.add(plain(item));
      }
      return plain;
    }
    return value.toString();
  }

  /** Reads all rows and keeps none: how many, and the sum of the first column. */
  private Object count(String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      long count = 0;
      long sum = 0;
      while (rows.next()) {
        count++;
        sum += rows.getLong(1);
      }
      return Map.of("rows", count, "sum", sum);
    }
  }

  /** Runs the statement and cancels it from another thread, as a tool's stop button does. */
  private Object cancel(String sql, long afterMs) throws Exception {
    try (Statement statement = connection.createStatement()) {
      Thread stop =
          new Thread(
              () -> {
                try {
                  Thread.sleep(afterMs);
                  statement.cancel();
                } catch (InterruptedException | SQLException e) {
                  System.err.println("cancel: " + e);
                }
              });
      stop.start();
      Map<String, Object> ended = new LinkedHashMap<>();
      try (ResultSet rows = statement.executeQuery(sql)) {
        while (rows.next()) {}
        ended.put("ended", null);
      } catch (SQLException e) {
        ended.put("ended", Main.described(e));
      }
      stop.join();
      return ended;
    }
  }

  private Object time(String sql, int times) throws SQLException {
    List<Double> seconds = new ArrayList<>();
    for (int i = 0; i < times; i++) {
      long started = System.nanoTime();
      try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
        while (rows.next()) {}
      }
      seconds.add((System.nanoTime() - started) / 1e9);
    }
    return Map.of("seconds", seconds);
  }

  @Override
  public void close() throws SQLException {
    connection.close();
  }
}
