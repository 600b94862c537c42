package skyflight;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.RowIdLifetime;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** Every method of DatabaseMetaData, called as the interface has it, so that none is forgotten. */
final class Getters {
  private Getters() {}

  /**
   * What each gave: a value, rows, or an error. Methods of one name are told apart by the number of their
   * arguments; `given` has the arguments of some, the others are called with null, 0 and false.
   */
  static Map<String, Object> all(DatabaseMetaData metadata, JsonObject given) throws Exception {
    Map<String, Object> found = new TreeMap<>();
    for (Method method : DatabaseMetaData.class.getMethods()) {
      if (method.getDeclaringClass() != DatabaseMetaData.class) {
        continue;
      }
      String name = method.getName() + "/" + method.getParameterCount();
      Object[] arguments = arguments(method, given.getAsJsonArray(name));
      Map<String, Object> told = new LinkedHashMap<>();
      try {
        Object value = method.invoke(metadata, arguments);
        if (value instanceof ResultSet rows) {
          try (rows) {
            told.putAll(Session.read(rows));
          }
        } else if (value instanceof Connection) {
          told.put("value", "a connection");
        } else if (value instanceof RowIdLifetime lifetime) {
          told.put("value", lifetime.name());
        } else {
          told.put("value", value);
        }
      } catch (InvocationTargetException thrown) {
        told.put("error", Main.described(thrown.getCause()));
      } catch (Exception thrown) {
        told.put("error", Main.described(thrown));
      }
      found.put(name, told);
    }
    return found;
  }

  private static Object[] arguments(Method method, JsonArray given) {
    Class<?>[] types = method.getParameterTypes();
    Object[] arguments = new Object[types.length];
    for (int i = 0; i < types.length; i++) {
      JsonElement value = given == null ? null : given.get(i);
      arguments[i] = value != null && !value.isJsonNull() ? Main.JSON.fromJson(value, types[i]) : nothing(types[i]);
    }
    return arguments;
  }

  private static Object nothing(Class<?> type) {
    if (type == int.class) {
      return 0;
    }
    return type == boolean.class ? Boolean.FALSE : null;
  }
}
